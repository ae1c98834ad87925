"""RNTuple, ROOT's columnar format: its metadata, and products made by copying its pages."""
