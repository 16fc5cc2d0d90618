"""Front doors for clients that were written for somebody else's API.

Each door is a thin translation: what comes in becomes a command of ``transitions.py``, what goes out is a fold over the
log of a turn (``turn_log.py``). None has a loop, a table of truth, or a rule of its own; so whatever a client does at
one of them is a chat like any other, and survives what chats survive.
"""
