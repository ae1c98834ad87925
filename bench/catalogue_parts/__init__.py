"""The parts of ``make bench NAME=catalogue``."""
