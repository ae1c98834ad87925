"""The link, the two ends and the rows of the benchmark ``wan``."""
