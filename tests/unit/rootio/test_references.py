"""References of objects, when the process ids they count from get other numbers."""

from __future__ import annotations

import pytest

from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.index import Record
from evstream.rootio.keys import PIDS_MAX, make_key, read_key, with_pids, write_key
from evstream.rootio.references import led_to, may_refer

PLAIN = b"\0\1\0\1\0\0\0\4\0\0\0\x08\4text\5plain"
REFERENCED = b"\0\1\0\1\0\0\0\4\0\0\0\x18\0\0\4text\5plain"
HOLDING = b"\xff\xff\xff\xffTNamed\0" + REFERENCED


def _record(class_name: str, title: str, data: bytes, *, big: bool = False) -> Record:
    key = make_key(
        class_name, "name", title, payload_bytes=len(data), object_bytes=len(data), seek=100,
        seek_directory=50, date=1, big=big,
    )  # fmt: skip
    return Record(key, data)


def test_who_may_refer() -> None:
    assert not may_refer("TNamed", PLAIN)
    assert may_refer("TNamed", REFERENCED)
    assert may_refer("TRefArray", PLAIN)
    assert may_refer("TObjArray", HOLDING)
    assert not may_refer("TObjArray", HOLDING[:11] + PLAIN)
    assert may_refer("TObjArray", b"\xff\xff\xff\xffMuon\0" + PLAIN)
    assert not may_refer("TH1D", b"\xff\xff\xff\xffTF1\0" + PLAIN)


@pytest.mark.parametrize("big", [True, False])
@pytest.mark.parametrize("data", [REFERENCED, HOLDING])
def test_keys_say_what_references_skip(data: bytes, big: bool) -> None:
    record = _record("TObjArray", "a long title", data, big=big)
    found = led_to(record, 2, "name")
    assert (found.key.pids, found.key.name, found.payload) == (2, "name", data)
    assert found.key.nbytes - found.key.key_bytes == len(data)
    written = write_key(found.key)
    assert len(written) == found.key.key_bytes
    assert read_key(written)[0] == found.key
    # What names a class holds positions, so that its key keeps its length.
    kept = big or data is HOLDING
    assert (found.key.key_bytes == record.key.key_bytes) == kept
    assert (found.key.title == record.key.title) == (big or not kept)


def test_what_does_not_refer_is_left_alone() -> None:
    record = _record("TNamed", "title", PLAIN)
    assert led_to(record, 3, "name") is record
    record = _record("TNamed", "title", REFERENCED)
    assert led_to(record, 0, "name") is record


def test_keys_that_cannot_say_it_are_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"'deep/name'.*too short"):
        led_to(_record("TFolder", "short", HOLDING), 1, "deep/name")
    record = _record("TFolder", "title", HOLDING, big=True)
    skips = Record(with_pids(record.key, PIDS_MAX), record.payload)
    with pytest.raises(CorruptFileError, match="'name'"):
        led_to(skips, 1, "name")
