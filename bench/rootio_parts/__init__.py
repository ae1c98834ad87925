"""Parts of the benchmark of `evstream.rootio`: its inputs, its peers, and what is timed."""
