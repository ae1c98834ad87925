"""The encoder id: what, beside a descriptor, decides a product's bytes."""

from __future__ import annotations

from evstream.rootio.compression import codec_versions

# Raise it with every change that makes other bytes from the same descriptor.
WRITER_VERSION = 5

ENCODER_ID = f"evstream-rootio-{WRITER_VERSION};{codec_versions()};levels=source"
