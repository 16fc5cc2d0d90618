"""The load generator: readers and senders, as one process that is told what to do line by line.

A line of JSON on standard input is an order (``do`` and its plan, see ``orders.py``); each is answered with lines
on standard output: first what it has to say meanwhile (``said``), at last its ``result`` or ``error``. After a
line with ``waits`` it goes on when it gets a line; where a wait would disturb what is under way it does not wait.
It ends with its input. It knows nothing of workloads, targets or the cluster's processes.
"""
