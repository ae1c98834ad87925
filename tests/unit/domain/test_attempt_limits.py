"""How often a range may be handed out before it is set aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from evstream.domain.ledger import BookRules, RunningUnit
from evstream.domain.ledger_model import LedgerModel
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WORKER = WorkerId("w")


def _lose_often(*, begun: bool, times: int) -> LedgerModel:
    model = LedgerModel()
    model.open_book(2, BookRules(10, failures_max=3, attempts_max=4), [Chunk(0, Lfn("a"), 0, 10)])
    for number in range(times):
        lease = LeaseId(f"l{number}")
        model.claim(lease, WORKER, 1, timedelta(seconds=1), NOW)
        if begun:
            model.renew(lease, WORKER, timedelta(seconds=1), NOW, [RunningUnit(2, 0, 0, 10)])
        model.forget_worker(WORKER)
    return model


def test_a_range_that_is_lost_again_and_again_while_it_runs_is_set_aside() -> None:
    assert _lose_often(begun=True, times=3).closed(2) == []
    assert [item.error for item in _lose_often(begun=True, times=4).closed(2)] == ["worker lost"]


def test_a_range_that_never_began_is_handed_out_for_ever() -> None:
    assert _lose_often(begun=False, times=20).closed(2) == []
