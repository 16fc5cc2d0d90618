"""The checker: decides from what was seen from outside whether the promises were kept.

One piece of code for everything that tries the cluster: the chaos run against real processes and the
simulation in one process. It knows no cluster, no clock and no I/O; it is given what happened and
answers with violations. ``history.py`` is what it takes, ``verdict.py`` what it answers.

========  =========================================================================  ======================
promise   decided from                                                               where
========  =========================================================================  ======================
P1        writes against the final history: each acknowledged message once,          ``conversation.py``
          answered once, in the order in which it was sent
P2        all readers of a chat agree: one worker per epoch, one content per         ``agreement.py``
          position and per message
P3        each reader's events: no gap, no repeat, nothing of an older tenure,       ``subscriber.py``
          the parts of an attempt joined are its message
P4        every chat rests in the end; every reader is told within the bound         ``conversation.py``,
                                                                                     ``verdict.py``
P5        an interruption ends within the bound, and what was streamed is kept       ``subscriber.py``
P6        P3 for readers that a drain moves; an attempt that could have been         ``verdict.py``
          handed over whole is not cut
P7        each tool call has one result, before anything else is said                ``conversation.py``
P8        all of the above, with faults of Redis among those that happened           ``subscriber.py``
P10       all of the above, for every chat that a fault was not aimed at; and how    given: ``bystander_delays``
          late bystanders were, which the run measures
========  =========================================================================  ======================

Readers are checked as they read, so that a run of any length needs little memory; the rest is decided
once, at the end. What a reader holds is kept by subject: ``preview.py``, the answer under way; ``told.py``, the
messages, how far its connection has got, a stop; ``findings.py``, what is wrong, and what it is judged by.
"""

from checker.history import PROMISES, Event, Fault, FinalChat, FinalMessage, Kind, Recovery, Violation, Write
from checker.subscriber import Subscriber
from checker.verdict import Checker, Verdict

__all__ = [
    "PROMISES",
    "Checker",
    "Event",
    "Fault",
    "FinalChat",
    "FinalMessage",
    "Kind",
    "Recovery",
    "Subscriber",
    "Verdict",
    "Violation",
    "Write",
]
