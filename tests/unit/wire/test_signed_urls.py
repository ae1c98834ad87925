"""What whoever has a signed URL can make of it: nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from datetime import timedelta

import pytest

from evstream.domain.errors import AccessError, RequestError
from evstream.testing.manual_clock import ManualClock
from evstream.wire.signed_urls import DerivedKeys, UrlSigner, descriptor_from_query

KEY = "ab" * 32
PATH = f"/v1/products/{KEY}"


@pytest.mark.parametrize("content", [b"[" * 3_000_000, b"[" + b"0," * 2_000_000 + b"0]"])
def test_a_descriptor_that_unpacks_to_millions_is_not_read(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = base64.urlsafe_b64encode(zlib.compress(content)).decode()
    assert len(packed) < 8000
    digest = hashlib.sha256(content).hexdigest()
    read: list[int] = []

    def reads(text: bytes) -> object:
        read.append(len(text))
        raise RecursionError

    monkeypatch.setattr(json, "loads", reads)
    with pytest.raises(RequestError, match="another product"):
        descriptor_from_query(packed, KEY)
    assert not read
    # Whoever names its own key is refused, too, and is no bug of ours.
    with pytest.raises(RequestError, match="damaged"):
        descriptor_from_query(packed, digest)


def test_what_is_signed_cannot_be_cut_at_other_places() -> None:
    clock = ManualClock()
    signer = UrlSigner(DerivedKeys(b"x" * 32))
    now, until = clock.now(), clock.now() + timedelta(hours=1)
    bound = {"f": "source", "w": "5~0~site~anna\n9999999999"}
    path, _, text = signer.sign("GET", PATH, now, until, bound).partition("?")
    query = dict(part.split("=") for part in text.split("&"))
    query |= {"f": "source", "w": "5~0~site~anna 9999999999"}
    signer.check("GET", path, query, now)
    plain = {name: query[name] for name in ("e", "k", "s")}
    for forged_path, forged in (
        # Without whom it is for: its text is the end of the source.
        (path, plain | {"f": f"source\nw={query['w']}"}),
        (f"{path}\n{query['e']}\nf=source\nw=5~0~site~anna", plain | {"e": "9999999999"}),
        (f"{path}\n{query['e']}", plain),
        (path, plain),
        (path, query | {"w": "9~1~site~anna"}),
        (path, query | {"e": "9999999999"}),
        (path, query | {"k": str(int(query["k"]) - 1)}),
        (path, query | {"k": "9" * 5000}),
        (path, query | {"s": query["s"].upper() + "é"}),
        (PATH.replace("ab", "cd"), query),
    ):
        with pytest.raises(AccessError):
            signer.check("GET", forged_path, forged, now)
    with pytest.raises(AccessError):
        signer.check("PUT", path, query, now)
    with pytest.raises(AccessError):
        UrlSigner(DerivedKeys(b"x" * 32, "another-edge")).check("GET", path, query, now)
