"""The load generator: readers and senders, as one process that is told what to do line by line.

A line of JSON on standard input is an order (``do`` and its plan, see ``orders.py``); each is answered with
lines on standard output: first what it has to say meanwhile (``said``), at last its ``result`` or ``error``. It ends
with its input. It knows nothing of workloads, targets or the cluster's processes.
"""
