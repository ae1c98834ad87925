"""Plans as other software reads them: metalink, PoolFileCatalog.xml, Link headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from evstream.domain.names import Guid
from evstream.wire.delivery_messages import Endpoint, PlanView

METALINK = "application/metalink4+xml"
POOL_FILE_CATALOG = "application/xml"
_NAMESPACE = "urn:ietf:params:xml:ns:metalink"
_DOCTYPE = '<!DOCTYPE POOLFILECATALOG SYSTEM "InMemory">\n'
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
PRIORITY_MAX = 999_999


def metalink(plans: Iterable[PlanView]) -> str:
    """Return plans as a metalink (RFC 5854), endpoints in their order.

    Size and hash are those of bytes that were made; without them a reader takes what comes.
    """
    root = Element("metalink", xmlns=_NAMESPACE)
    for plan in plans:
        file = SubElement(root, "file", name=plan.name)
        SubElement(file, "identity").text = plan.key
        if plan.size:
            SubElement(file, "size").text = str(plan.size)
        if plan.sha256:
            SubElement(file, "hash", type="sha-256").text = plan.sha256
        for priority, endpoint in enumerate(plan.endpoints, 1):
            attributes = {"priority": str(min(priority, PRIORITY_MAX))}
            if endpoint.country:
                attributes["location"] = endpoint.country.lower()
            SubElement(file, "url", attributes).text = endpoint.url
    return _text(root)


def pool_file_catalog(plans: Iterable[PlanView]) -> str:
    """Return plans as a POOL file catalogue, in the shape in which Rucio writes it."""
    root = Element("POOLFILECATALOG")
    for plan in plans:
        file = SubElement(root, "File", ID=guid_of(plan.key).upper())
        physical = SubElement(file, "physical")
        for endpoint in plan.endpoints:
            SubElement(physical, "pfn", filetype=_file_type(plan), name=endpoint.url)
        SubElement(SubElement(file, "logical"), "lfn", name=plan.name)
    return _text(root, _DOCTYPE)


def links(endpoints: Sequence[Endpoint]) -> list[str]:
    """Return Link headers for copies of what an answer is (RFC 6249), in their order."""
    headers = []
    for priority, endpoint in enumerate(endpoints, 1):
        place = f"; geo={endpoint.country.lower()}" if endpoint.country else ""
        headers.append(f"<{endpoint.url}>; rel=duplicate; pri={priority}{place}")
    return headers


def guid_of(key: str) -> Guid:
    """Return the name that a catalogue of POOL's takes for a product: a UUID, from its key.

    It is of version 8, whose bits are what a vendor makes them (RFC 9562).
    """
    bits = int(key[:32], 16) & ~(0xF << 76) & ~(0x3 << 62)
    return Guid(str(UUID(int=bits | 0x8 << 76 | 0x2 << 62)))


def _file_type(plan: PlanView) -> str:
    return "ROOT_All" if plan.descriptor.get("format", "root") == "root" else ""


def _text(root: Element, doctype: str = "") -> str:
    indent(root)
    return _XML + doctype + tostring(root, "unicode") + "\n"
