"""Where source files are read from: local disks, whatever fsspec opens, and memory."""
