"""Output stores: a folder, and memory."""
