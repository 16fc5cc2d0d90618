"""The soak: what a day of bounded load leaves behind, in a quarter of an hour.

A cluster of its own gets as many chats and messages as a busy day has, with edits, archives, interruptions, keys and
tokens among them; then the day is over (what waits for its end is aged, ``aging.py``), what nobody needs any more is
purged, and everything that could grow without end has to be flat: memory and files of the replicas, sizes and dead rows
of tables, keys and memory of Redis.

* ``load.py``     the load: a rate, a mix, and senders that keep up with it
* ``gauges.py``   what is read, again and again
* ``aging.py``    a day passes
* ``verdict.py``  what flat means, with its tolerances (pure)
* ``report.py``   the table (pure)

It uses the cluster and the servers of the chaos run, and is an instrument as that is.
"""
