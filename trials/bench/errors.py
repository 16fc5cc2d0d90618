"""Why a measurement cannot go on."""

from __future__ import annotations


class BenchError(Exception):
    """A workload cannot go on; the message says why."""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in a group and in the groups within it."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
