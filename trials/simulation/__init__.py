"""The simulation: a whole cluster in one process, on a clock and a scheduler of its own, from one seed.

The loops are the real ones; the servers are the memory ports; the network between them is the simulation's. A
seed decides everything that happens, in which order, and when; so a run can be repeated, step by step.

* ``scheduler.py``  trio made repeatable; processes that freeze, and whose clocks go at their own speed
* ``seeding.py``    which faults a seed brings, and how much of each
* ``network.py``    what lies between a process and the servers: delays, cuts, lost answers, late hints
* ``process.py``    one replica process: started, killed, frozen, drained; ``http_server.py``, its requests and streams
* ``processes.py``  all of them: who is there, and who starts the next one
* ``agenda.py``     what the world does later
* ``provider.py``   the model: what it says, how it stalls and fails
* ``client.py``     users who send, interrupt, edit, promote, delete, archive and rename
* ``reader.py``     subscribers who hop between replicas with their cursor
* ``faults.py``     what is done to the cluster, and when it is over
* ``standby.py``   a database as it was when its standby was cut off, to take over
* ``witness.py``    what only an insider sees: who took effect, and whether it was theirs to take
* ``watched.py``    the servers' adapters, which tell the witness
* ``run.py``        one seed from start to verdict; ``trace.py`` what it leaves to be read
* ``vigil.py``      whether every chat that has work has somebody who does it
* ``planted.py``    known bugs, to see that they are found
* ``jobs.py``       many seeds, also several at a time; ``report.py`` what is said about them

What is right or wrong is decided by the package ``checker``, which is the chaos run's as well.
"""
