"""The parts of ``make bench NAME=tasks``."""
