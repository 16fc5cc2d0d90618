"""A workspace host: one per machine, the parent of the sandboxes there.

Nesting is the order of shutdown: signals ⊃ connections ⊃ provider ⊃ HTTP ⊃ incarnation (lease ⊃ lives ⊃ sweep).

What each part decides alone: ``lease`` whether this process may act, ``lives`` what is done to a workspace, ``sweep``
which calls nobody waits for any more, ``forward`` who is let through to an agent.

What happens on failure:

* Postgres is away: nothing new begins, what runs goes on for as long as the lease does;
* the lease ends: every sandbox is stopped before anybody tells its workspace lost, and a new incarnation begins;
* the process is killed: its sandboxes die with it, and the next one finds their rows and tells them stopped;
* one workspace is slow, dead or full: a task of its own waits for it, and no other.
"""
