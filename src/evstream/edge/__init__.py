"""Makes and serves products near whoever asks for them."""

from evstream.edge.products import Product, Products

__all__ = ["Product", "Products"]
