"""Parts of the benchmark of edges."""
