"""What happens, said once: loops report events and spans here; logs and metrics are their consumers.

``event(name, **fields)`` says that something happened; ``span(name, **fields)`` says that something took a
while and how it ended. Neither knows who listens. ``subscribe`` adds a listener: the log
(``log_listener``) and the Prometheus registry in ``metrics.py`` are two.

A listener is called synchronously in the task that reports, so it must be quick. Where one fails (standard error is
closed, or nobody reads it, or a disk is full), its line is lost: the other listeners are told all the same, and the
task that reports goes on. How often that happened is counted (``failures``).
Fields are identifiers and numbers; content of chats, arguments of tools and keys are never among them.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
import trio

from chatcluster.catalogue import LEVELS, Level

Listener = Callable[[str, dict[str, object]], None]

_listeners: list[Listener] = []
_failures = Counter[str]()


def subscribe(listener: Listener) -> None:
    _listeners.append(listener)


def unsubscribe(listener: Listener) -> None:
    _listeners.remove(listener)


def event(name: str, /, **fields: object) -> None:
    """Report that ``name`` happened. ``catalogue.py`` has all names."""
    for listener in _listeners:
        try:
            listener(name, fields)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is nobody to be told of it but the count
            _failures[type(error).__name__] += 1


def failures() -> int:
    """How often a listener failed."""
    return _failures.total()


SELDOM_SECONDS = 10.0


class Seldom:
    """An event that what others send could make happen any number of times: reported at most once in ten seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0
        self._reported_at = float("-inf")

    def event(self, **fields: object) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._reported_at >= SELDOM_SECONDS:
            event(self._name, count=self._count, **fields)
            self._count, self._reported_at = 0, now


def span(name: str, /, **fields: object) -> Span:
    """Report ``name`` at its end, with ``duration_seconds`` and, if it failed, ``error`` (its type's name).

    The block may add fields to the dictionary that it is given. Being cancelled is an end like another.
    """
    return Span(name, fields)


class Span:
    """Made by ``span``. A class, because each transaction has one, and a generator takes three times as long."""

    __slots__ = ("_fields", "_name", "_started")

    def __init__(self, name: str, fields: dict[str, object]) -> None:
        self._name = name
        self._fields = fields
        self._started = 0.0

    def __enter__(self) -> dict[str, object]:
        self._started = time.perf_counter()
        return self._fields

    def __exit__(self, kind: type[BaseException] | None, _: object, __: object) -> None:
        if kind is not None:
            self._fields["error"] = "cancelled" if issubclass(kind, trio.Cancelled) else kind.__name__
        self._fields["duration_seconds"] = time.perf_counter() - self._started
        event(self._name, **self._fields)


_unread: set[str] = set()
"""Events below the level of the log: nobody reads their lines, so none are made."""


def log_listener(name: str, fields: dict[str, object]) -> None:
    if name in _unread:
        return
    log = structlog.get_logger()
    match LEVELS.get(name):
        case Level.DEBUG:
            log.debug(name, **fields)
        case Level.WARNING:
            log.warning(name, **fields)
        case _:
            log.info(name, **fields)


class Unhurried:
    """A file that is written to without ever waiting: a pipe whose reader has stopped must not stop the replica.

    What does not fit at once is lost. ``write`` raises ``BlockingIOError`` then, and so it is counted (``failures``).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._broken_off = False

    def write(self, text: str) -> None:
        data = ("\n" * self._broken_off + text).encode(errors="backslashreplace")
        for start in range(0, len(data), select.PIPE_BUF):  # so much fits where anything does
            if not self._poll.poll(0):
                self._broken_off = self._broken_off or start > 0
                raise BlockingIOError("nobody reads what is written to standard error")
            os.write(self._descriptor, data[start : start + select.PIPE_BUF])
        self._broken_off = False

    def flush(self) -> None:
        """Nothing is kept."""


def _standard_error() -> Any:
    """Standard error under a number of its own: if somebody closes it, its old one is given to the next socket, and
    lines of the log would go to a server, or to a client."""
    if sys.stderr is None:  # closed before Python started
        return open(os.devnull, "w")
    try:
        return Unhurried(os.dup(sys.stderr.fileno()))
    except (OSError, ValueError):  # a stand-in without a descriptor, or closed
        return sys.stderr


def configure_logging(level: str, style: str) -> None:
    """Send one line per event to standard error: JSON for machines, or text for people."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=_standard_error()),
        cache_logger_on_first_use=True,
    )
    numbers = logging.getLevelNamesMapping()
    _unread.clear()
    _unread.update(name for name, of_event in LEVELS.items() if numbers[of_event.name] < numbers[level.upper()])
    subscribe(log_listener)
