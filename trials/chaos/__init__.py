"""The chaos run: a real cluster under load, killed again and again, and checked from outside.

A black box: everything is done through the public API, and through signals to the replicas' processes.
What it is made of:

* ``cluster.py``   the cluster: one of our own in a temporary directory, or one that is given
* ``servers.py``   its Postgres and Redis, which the run can stop, kill and empty
* ``postgres_host.py``  a Postgres whose clock can be set, and that can have a standby
* ``wires.py``     what is between replicas and servers where a fault needs it; ``wire_process.py`` carries it
* ``database.py``  the run's own sessions on Postgres
* ``proxy.py``    what may stand in front of it: HAProxy or nginx, with the files in ``deploy/``
* ``fleet.py``     its replicas: who is there, on which port, under which process ID
* ``writer.py``    a client that sends, interrupts, edits, promotes and deletes, seeded
* ``reader.py``    a client that reads a chat's stream through any number of replicas, and resumes by its cursor;
  ``route.py`` says through which
* ``faults.py``    what is done to the cluster
* ``harms.py``     the faults of one chat, user, row, connection or clock; ``garbage.py`` and ``load_process.py`` have
  what some of them use, ``victim_chats.py`` whom they hit
* ``failover.py``  a standby that takes over without the last transactions
* ``bystanders.py``  users who must not notice, and what they waited all the same
* ``crowd.py``     the faults of readers
* ``injector.py``  which fault comes when; ``watching.py`` watches readers through it and has them judged
* ``busy.py``      load beside the cluster
* ``money.py``     what was booked, held against what the model counted; ``broken_answers.py`` what it broke off
* ``recovery.py``  how long after a fault each reader was told that its chat goes on
* ``journal.py``   the replicas' logs: who died that nobody killed, who was taken for dead and lived
* ``operators.py``  what the cluster's page tells operators, held against all that
* ``record.py``    the log, from which every violation can be reconstructed
* ``talks.py``     all conversations, and what they add up to
* ``teller.py``    tells each violation as it is found
* ``own_clock.py`` our own clock, and how long it stood still
* ``run.py``       all of that together; ``summary.py`` what is printed in the end

What is right or wrong is decided by the package ``checker`` alone. The run lives under
``trials/`` because it is an instrument and no part of the product: the wheel stays lean.
"""
