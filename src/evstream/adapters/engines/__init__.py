"""Engines that start pilots."""
