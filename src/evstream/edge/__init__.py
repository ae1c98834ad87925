"""Makes, keeps and serves products near whoever asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstream.late import late

if TYPE_CHECKING:
    from evstream.edge.cache import CachePolicy, CacheState, ProductCache
    from evstream.edge.delivery import Deliveries, Delivery
    from evstream.edge.own_cuts import OwnCuts
    from evstream.edge.products import Product, Products

_PLACES = {
    "evstream.edge.cache": ("CachePolicy", "CacheState", "ProductCache"),
    "evstream.edge.delivery": ("Deliveries", "Delivery"),
    "evstream.edge.own_cuts": ("OwnCuts",),
    "evstream.edge.products": ("Product", "Products"),
}

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

__getattr__ = late(__name__, _PLACES)
