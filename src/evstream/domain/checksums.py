"""Checksums of whole files, as catalogues know them beside the fingerprints of ours."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evstream.domain.errors import ConflictError, DataError, RequestError

HEX_DIGITS = {"adler32": 8, "md5": 32, "sha256": 64}
"""The checksums that are known, with how many digits each has."""


def checksums_of(given: Mapping[str, str]) -> dict[str, str]:
    """Return checksums in the one spelling in which they are compared: small hexadecimal.

    Raises
    ------
    RequestError
        One is of no kind that we know, or no number of its kind.
    """
    checked: dict[str, str] = {}
    for name, text in sorted(given.items()):
        if (digits := HEX_DIGITS.get(name)) is None:
            raise RequestError(
                f"{name!r} is no checksum that is known", hint=f"give {', '.join(HEX_DIGITS)}"
            )
        # Some write an adler32 as a number, without the zeros before it.
        value = text.strip().lower().rjust(digits if name == "adler32" else 0, "0")
        if len(value) != digits or not set(value) <= set("0123456789abcdef"):
            raise RequestError(f"{text!r} is no {name}", hint=f"give {digits} hexadecimal digits")
        checked[name] = value
    return checked


def joined_checksums(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return what two say of one file.

    Raises
    ------
    ConflictError
        They differ.
    """
    for name in sorted({*known} & {*given}):
        if known[name] != given[name]:
            raise ConflictError(
                f"its {name} is registered as {known[name]}, not {given[name]}",
                hint="find out which one is right, and register it under another name if need be",
            )
    return {**known, **given}


@dataclass(slots=True)
class Summing:
    """Checksums of bytes that come one after another: those that are always told, and md5.

    Parameters
    ----------
    expected : mapping
        Of the whole, as registered; what is not there is not compared.
    """

    expected: Mapping[str, str]
    _adler32: int = 1
    _sha256: Any = field(default_factory=hashlib.sha256)
    _md5: Any = None

    def __post_init__(self) -> None:
        if "md5" in self.expected:
            self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, data: bytes | memoryview) -> None:
        """Go on with these bytes."""
        self._adler32 = zlib.adler32(data, self._adler32)
        self._sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)

    @property
    def sums(self) -> dict[str, str]:
        """The checksums of what has come."""
        sums = {"adler32": f"{self._adler32:08x}", "sha256": str(self._sha256.hexdigest())}
        return sums if self._md5 is None else {**sums, "md5": str(self._md5.hexdigest())}

    def check(self, what: str) -> None:
        """Refuse bytes that are not the expected ones.

        Raises
        ------
        DataError
        """
        sums = self.sums
        for name in sorted(self.expected):
            if sums[name] != self.expected[name]:
                raise DataError(
                    f"{what} has {name} {sums[name]}, not {self.expected[name]} as registered",
                    hint="compare the replica with the original",
                )
