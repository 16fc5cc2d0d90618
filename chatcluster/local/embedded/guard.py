"""Become another program that dies with its starter, under an unprivileged user if asked to.

Run as a file, by the starter, in place of the program:

    python -I -S guard.py STARTER_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENTS...

It gives up root (UID and GID; -1 leaves them), asks the kernel (Linux) to send DEATH_SIGNAL when the
starter dies, checks that this has not happened yet, and executes PROGRAM under the same process ID. The
order counts: a change of user clears the request for the death signal. The kernel means the *thread*
that started us: ``child.spawn`` starts everything in one that lives as long as its process.

It imports nothing of chatcluster, so that it starts in a few milliseconds.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    starter_pid, death_signal, uid, gid = (int(argument) for argument in sys.argv[1:5])
    program = sys.argv[5:]
    if gid >= 0:
        os.setgroups([])
        os.setgid(gid)
    if uid >= 0:
        os.setuid(uid)
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != starter_pid:
        sys.exit("the starter is gone")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
