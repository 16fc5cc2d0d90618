"""Where the time of a takeover goes, from the replicas' own logs: known dead, claimed, shown to a reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from chaos.journal import entries, time_of
from chaos.recovery import Watch
from chaos.summary import spread

WANTED = (b'"replica.buried"', b'"chat.taken_over"')


def phases(logs: Path | None, watches: Sequence[Watch], clock_offset: float) -> dict[str, Any]:
    """Seconds after the fault at which each step of the takeovers was done; empty without logs.

    ``clock_offset`` is what has to be added to our clock's times to get the time of day.
    """
    if logs is None:
        return {}
    buried: dict[str, float] = {}
    claimed: dict[tuple[str, int], float] = {}
    for entry in entries(logs, *WANTED):
        time = time_of(entry)
        if entry["event"] == "replica.buried":
            buried.setdefault(entry["worker_id"], time)
        else:
            claimed[entry["chat_id"], entry["epoch"]] = time
    taken_over = [watch for watch in watches if watch.takeover_seconds is not None and watch.fault.kind == "kill"]
    return {
        "buried": spread(list(_since_fault(taken_over, clock_offset, lambda watch: buried.get(watch.fault.worker_id)))),
        "claimed": spread(
            list(
                _since_fault(
                    taken_over, clock_offset, lambda watch: claimed.get((watch.subscriber.chat, watch.epoch_after or 0))
                )
            )
        ),
        "shown": spread([watch.takeover_seconds for watch in taken_over if watch.takeover_seconds is not None]),
    }


def _since_fault(watches: Iterable[Watch], clock_offset: float, time_of: Any) -> Iterator[float]:
    for watch in watches:
        time = time_of(watch)
        if time is not None:
            yield time - clock_offset - watch.fault.time
