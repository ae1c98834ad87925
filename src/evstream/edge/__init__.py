"""Makes, keeps and serves products near whoever asks for them."""

from evstream.edge.cache import CachePolicy, CacheState, ProductCache
from evstream.edge.delivery import Deliveries, Delivery
from evstream.edge.own_cuts import OwnCuts
from evstream.edge.products import Product, Products

__all__ = [
    "CachePolicy",
    "CacheState",
    "Deliveries",
    "Delivery",
    "OwnCuts",
    "Product",
    "ProductCache",
    "Products",
]
