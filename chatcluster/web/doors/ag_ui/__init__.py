"""``/api/agui``: AG-UI, the protocol between agents and pages, version 1.

One route: a *run* begins a turn of a chat, or goes on with one, and is told as events until the turn is over, or needs
its client. A stream ends with ``RUN_FINISHED`` or ``RUN_ERROR``, or it is broken off; there is no ``[DONE]``, which
clients would take for an event. The protocol has no way to resume: so a run that says nothing new is told the last turn
again, from its beginning on, in the place of what its client has of that.
"""
