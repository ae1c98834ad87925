"""Receipts as files: read, and known to have the form of one before anybody looks inside."""

from __future__ import annotations

import json
from typing import Any, NotRequired, TypedDict

import msgspec

from evstream.domain.errors import VerificationError
from evstream.domain.receipt import RECEIPT_VERSION

Piece = tuple[str, int, int, str]
Range = tuple[str, int, int, int, list[int]]


class _Stream(TypedDict):
    name: str
    optional: bool
    merge: str | None


class _Fingerprint(TypedDict):
    size: int
    uuid: str
    digest: str


class _Origin(TypedDict):
    task: int
    name: str
    sha256: str


class _File(TypedDict):
    lfn: str
    pfns: list[str]
    fingerprint: _Fingerprint
    entries: int
    asked: list[tuple[int, int]]
    output: NotRequired[_Origin]


class _Parent(TypedDict):
    task: int
    stream: str
    state: str
    receipt: str | None
    public_key: str | None


class _Secondary(TypedDict):
    name: str
    dataset: str
    tree: str
    branches: list[str] | None
    per_event: float
    offset: int
    files: list[_File]


class _Task(TypedDict):
    state: str
    tree: str
    events_per_range: int
    merge: NotRequired[bool]
    streams: NotRequired[list[_Stream]]
    secondary: NotRequired[list[_Secondary]]


class _Output(TypedDict):
    stream: str
    file: str
    name: str
    size: int
    sha256: str
    entries: dict[str, int]
    merged_into: int | None


class _Counts(TypedDict):
    events: int
    committed: int
    set_aside: int
    cancelled: int
    ranges: int
    ranges_committed: int
    attempts: int
    failed_attempts: int
    cpu_s: float
    lost_cpu_s: float
    bytes_delivered: int
    bytes_of_source: int


class _Receipt(TypedDict):
    """What verification looks at; a receipt may say more."""

    task: _Task
    parents: NotRequired[list[_Parent]]
    files: list[_File]
    commits: list[Range]
    set_aside: list[Piece]
    cancelled: list[Piece]
    outputs: list[_Output]
    counts: _Counts


def read_receipt(content: bytes) -> dict[str, Any]:
    """Return a receipt that has the form of one; what it says is not looked at.

    Raises
    ------
    VerificationError
        It is no JSON, no receipt, of another version, or damaged.
    """
    try:
        receipt = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"the receipt is damaged: it is no JSON: {error}") from error
    if not isinstance(receipt, dict) or receipt.get("evstream_receipt") != RECEIPT_VERSION:
        raise VerificationError(
            f"not a receipt of version {RECEIPT_VERSION}",
            hint="give a receipt.json of evstream",
        )
    try:
        msgspec.convert(receipt, _Receipt)
    except (msgspec.ValidationError, RecursionError) as error:
        raise VerificationError(f"the receipt is damaged: {error}") from error
    return receipt
