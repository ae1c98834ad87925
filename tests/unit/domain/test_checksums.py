"""Checksums of whole files: spelling, agreement, comparison."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from evstream.domain.checksums import Summing, checksums_of, joined_checksums
from evstream.domain.errors import ConflictError, DataError, RequestError

DATA = b"events" * 1000
SUMS = {
    "adler32": f"{zlib.adler32(DATA):08x}",
    "md5": hashlib.md5(DATA, usedforsecurity=False).hexdigest(),
    "sha256": hashlib.sha256(DATA).hexdigest(),
}


def test_spellings_of_one_checksum_are_one() -> None:
    assert checksums_of({"adler32": "12A4F"}) == {"adler32": "00012a4f"}
    assert checksums_of({"md5": SUMS["md5"].upper()}) == {"md5": SUMS["md5"]}


@pytest.mark.parametrize(
    "given",
    [{"crc32c": "00000000"}, {"adler32": "123456789"}, {"adler32": "-1"}, {"md5": "00"}],
)
def test_what_is_no_checksum_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        checksums_of(given)


def test_what_two_say_is_joined_unless_they_differ() -> None:
    md5 = {"md5": SUMS["md5"]}
    assert joined_checksums(md5, {"adler32": "00000001"}) == {**md5, "adler32": "00000001"}
    with pytest.raises(ConflictError, match="md5"):
        joined_checksums(md5, {"md5": "0" * 32})


@pytest.mark.parametrize("kind", sorted(SUMS))
def test_bytes_are_compared_with_what_was_expected(kind: str) -> None:
    right, wrong = Summing({kind: SUMS[kind]}), Summing({kind: SUMS[kind]})
    for at in range(0, len(DATA), 700):
        right.add(DATA[at : at + 700])
    wrong.add(DATA[1:])
    right.check("it")
    with pytest.raises(DataError, match=f"it has {kind}"):
        wrong.check("it")
