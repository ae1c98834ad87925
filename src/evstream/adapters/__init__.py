"""Answers to `evstream.ports`: one package per port, one file per backend."""
