"""The agent: process 1 of each sandbox. It runs what its workspace's chats ask for, and knows what became of it.

    python -m chatcluster.workspaces.agent --state DIR --home DIR --work DIR

It speaks HTTP on a Unix socket in its state directory (``workspace_wire.py`` has what is said). Its truth is the
**ledger**, SQLite in the same directory, with a file for the output of each call. What is said to be begun there was
said so before it was begun; so an ID that the ledger does not have was never begun, whatever happened since.

A **call** is carried out once. Requests for the same chat carry its epoch, and the ledger has the highest seen: a
caller with a lower one is of a tenure that is over, and is refused.

The agent ends with its sandbox, and everything that runs there with it. Calls that were under way are ``killed`` for
the next agent that opens the ledger, at the time of the last sign of life, with the output that there is.

It is alone in its process, one for each workspace of a machine, so it is small: nothing of the replica is imported
here, and nothing of a database or a web framework. Work on files is done within the loop: it is bounded, delays this
workspace alone, and needs no thread where there are no processes to be had.
"""
