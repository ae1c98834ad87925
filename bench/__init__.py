"""Measures evstream: one module a question, run by ``make bench NAME=…``."""
