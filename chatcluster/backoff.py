"""How long to wait before a further try: the one back-off. How long at first and at most is said where it is used."""

from __future__ import annotations

import random

STEPS_MAX = 64
"""Waits have reached any cap by then; with many more, their number does not fit a float."""


def grown_seconds(first_seconds: float, steps: int, cap_seconds: float, *, factor: float = 2.0) -> float:
    """The wait that has grown so many times, for a caller that keeps the count itself."""
    return float(min(first_seconds * factor ** min(steps, STEPS_MAX), cap_seconds))


class Backoff:
    """Waits that grow by ``factor`` from ``first_seconds`` to ``cap_seconds``, and are short again after ``reset``.

    The cap may be changed while the waits grow.
    """

    def __init__(
        self,
        first_seconds: float,
        cap_seconds: float,
        *,
        factor: float = 2.0,
        jitter: tuple[float, float] = (0.5, 1.0),
    ) -> None:
        self.cap_seconds = cap_seconds
        self.has_begun = False
        """Whether a wait has been asked for since the last ``reset``."""
        self._first_seconds = first_seconds
        self._factor = factor
        self._jitter = jitter
        self._seconds = first_seconds

    def __repr__(self) -> str:
        return f"<Backoff {self._seconds:g} of {self.cap_seconds:g} s>"

    def reset(self) -> None:
        """The try went well: the next wait is the first again."""
        self.has_begun = False
        self._seconds = self._first_seconds

    def next_seconds(self) -> float:
        """The wait before the next try."""
        self.has_begun = True
        seconds = min(self._seconds, self.cap_seconds)
        self._seconds = seconds * self._factor
        return seconds

    def drawn_seconds(self) -> float:
        """``next_seconds``, times a factor that is drawn out of ``jitter``: what failed together shall not come back
        together."""
        return self.next_seconds() * random.uniform(*self._jitter)
