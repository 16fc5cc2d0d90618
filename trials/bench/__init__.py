"""The bench: what a cluster costs and how quick it is, measured from outside and compared with targets.

One Postgres (with fsync) and one Redis serve a whole run; each case of a workload gets replicas of its own,
started by hand, and an empty database. Who does what:

===================  =================================================================================
``workloads/``       what is measured: one module each, with its cases. The registry is in its ``__init__``
``load/``            the load generator, a process of its own: an epoll loop, minimal HTTP, a command a line
``cluster.py``       servers, replicas, the model's server, and their process IDs
``meters.py``        CPU, memory, transactions, Redis commands and late heartbeats between two moments
``model.py``         a model without a network, and ``replica.py``, the replica that has it
``figures.py``       what a figure is called, its unit, and how repeats become one value (pure)
``samples.py``       percentiles (pure)
``stamps.py``        tokens with a time in them: how old they are, which are lost, which came twice (pure)
``targets.py``       what is asked of which figure (pure)
``report.py``        the table, the comparison with an older run, the JSON (pure)
``__main__.py``      the command line
===================  =================================================================================

A token's text is the monotonic time at which the model said it; that clock is the same for all processes of a
machine, so a token's age at a reader is a subtraction. Everything runs on one machine and shares its cores, the
load generator too: it says what share of a core it took, so that nobody mistakes its cost for the cluster's.

It lives under ``trials/`` because it is an instrument and no part of the product.
"""
