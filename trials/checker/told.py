"""What a reader remembers of what it was told: the messages, how far its connection has got, and since when the chat
is being stopped.
"""

from __future__ import annotations

from checker.history import FinalMessage


class ToldMessages:
    """The messages that a reader holds, by ID."""

    def __init__(self) -> None:
        self.held: dict[int, FinalMessage] = {}
        self.last_id = 0
        self.last_revision = 0
        self._ever: set[FinalMessage] = set()
        """Not forgotten when all is told anew: what comes again, as it was, had no preview this time."""

    def add(self, message: FinalMessage) -> bool:
        """Whether it is new: it never came before, as it is."""
        is_new = message not in self._ever
        self._ever.add(message)
        self.held[message.id] = message
        self.last_id = max(self.last_id, message.id)
        self.last_revision = max(self.last_revision, message.revision)
        return is_new

    def begin_anew(self) -> None:
        self.held.clear()
        self.last_id = self.last_revision = 0


class Connection:
    """How far the reader's connection has got. The epoch is remembered beyond its end."""

    def __init__(self) -> None:
        self.live = False
        """Whether it is past its first events, which end with ``queue``."""
        self.caught_up = False
        """Whether it has brought anything of the present turn live."""
        self.epoch = 0
        """That of the last status which was followed by all that belongs to it: no later one may be older."""
        self._status_version = 0
        """The snapshot version in the cursor with which a status came last."""

    def begin(self) -> None:
        self.live = self.caught_up = False

    def hear_status(self, version: int, *, is_news: bool) -> None:
        """One that says something new at a cursor which has not moved begins to tell all anew."""
        if is_news and version == self._status_version:
            self.live = False
        self._status_version = version

    def hear_message(self, *, asks: bool) -> None:
        """``asks``: it is a question that never came before."""
        self.caught_up = self.live and (self.caught_up or asks)

    def hear_all(self, epoch: int) -> None:
        """What there was to be told is told."""
        self.live, self.epoch = True, epoch

    def forget(self) -> None:
        """What follows is of another server: tenures may have the numbers of lost ones."""
        self.epoch, self.caught_up = 0, False


class Stop:
    """Since when the chat has been interrupting, if it is."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._since: float | None = None

    def hear_status(self, status: str, now: float) -> float | None:
        """When the interruption began that is over with this status, if it took too long."""
        if status == "interrupting":
            self._since = now if self._since is None else self._since
            return None
        since, self._since = self._since, None
        return since if since is not None and now - since > self._seconds_max else None

    def forget(self) -> None:
        self._since = None
