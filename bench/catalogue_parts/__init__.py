"""Parts of the benchmark of the catalogue."""
