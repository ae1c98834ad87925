"""What an adapter must do: one suite of tests per port, for every adapter alike.

Inherit a suite in a test module and override the fixture that makes the adapter::

    class TestMyStore(OutputStoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

What an adapter cannot do by its nature it declares in a class attribute of the suite
(``durable = False``); tests themselves are never overridden. The suites need pytest and
anyio's plugin for it, which anyio brings along.
"""

from evstream.testing.contracts.access_keys import AccessKeysContract
from evstream.testing.contracts.catalogue import CatalogueContract
from evstream.testing.contracts.clock import ClockContract
from evstream.testing.contracts.format import FormatContract
from evstream.testing.contracts.ids import IdsContract
from evstream.testing.contracts.ledger_reopening import LedgerContract
from evstream.testing.contracts.links import LinksContract
from evstream.testing.contracts.offload import OffloadContract
from evstream.testing.contracts.output_store import OutputStoreContract
from evstream.testing.contracts.payload_runner import PayloadRunnerContract
from evstream.testing.contracts.product_store import ProductStoreContract
from evstream.testing.contracts.products import ProductCatalogueContract
from evstream.testing.contracts.source_opener import SourceOpenerContract
from evstream.testing.contracts.whiteboard import WhiteboardContract

__all__ = [
    "AccessKeysContract",
    "CatalogueContract",
    "ClockContract",
    "FormatContract",
    "IdsContract",
    "LedgerContract",
    "LinksContract",
    "OffloadContract",
    "OutputStoreContract",
    "PayloadRunnerContract",
    "ProductCatalogueContract",
    "ProductStoreContract",
    "SourceOpenerContract",
    "WhiteboardContract",
]
