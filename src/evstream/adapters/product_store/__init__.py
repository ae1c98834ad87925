"""Stores of products: a folder, a bucket, memory."""
