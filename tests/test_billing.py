"""What a tenure spends is known apart: answers and summaries of one history do not take each other's place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from chatcluster.billing import Unbooked
from chatcluster.ports import Meter
from chatcluster.usage import Usage


def attempt() -> Any:
    meter = Meter()
    meter.count(Usage(10, 5))
    return SimpleNamespace(has_started=True, meter=meter, asked_model=None, told=meter.told)


def test_summaries_have_numbers_of_their_own() -> None:
    chat: Any = SimpleNamespace(id="c", history_version=3, attempt=1, epoch=2, takeovers=1)
    unbooked = Unbooked()
    for compaction in (True, True, False):
        with unbooked.attempt(chat, attempt(), compaction=compaction):
            pass
    keys = {(spent.history_version, spent.attempt) for spent in unbooked.spent}
    assert len(keys) == 3
    assert [spent.attempt > 0 for spent in unbooked.spent] == [False, False, True]
