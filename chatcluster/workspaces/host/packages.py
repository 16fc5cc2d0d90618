"""Whether a machine has the packages that a template wants of it.

Where there is dpkg it is asked; elsewhere a package is taken to be there if a program of its name is. A template with a
root of its own is not looked at: its programs are in there.

A host installs none. All its workspaces see one system, its own: what a package's scripts do as root, and which version
of it all of them have from then on, is for the machine's administrator to decide, and not for the authors of templates.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import trio

LOOK_SECONDS_MAX = 10.0
DESKTOP_PROGRAMS = {"Xvfb": "xvfb", "openbox": "openbox", "xdotool": "xdotool", "scrot": "scrot"}
"""What a screen is made of, and the package of each, on Debian."""


def missing_for_desktop() -> list[str]:
    """The packages of what is not there."""
    return [package for program, package in DESKTOP_PROGRAMS.items() if shutil.which(program) is None]


def missing_git() -> str:
    """A sentence, empty where it is there."""
    return "" if shutil.which("git") else f"what changes in workspaces cannot be told without git: {to_do(['git'])}"


def to_do(missing: Sequence[str]) -> str:
    """What the machine's administrator can do about it."""
    return f"apt-get install {' '.join(missing)}" if shutil.which("apt-get") else f"install {', '.join(missing)}"


async def missing_packages(names: Sequence[str]) -> list[str]:
    """The packages that are not installed, in their order. Raises ``OSError``, and ``TooSlowError``."""
    if not names or shutil.which("dpkg-query") is None:
        return [name for name in names if shutil.which(name) is None]
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", "--", *names]
    with trio.fail_after(LOOK_SECONDS_MAX):
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    lines = (line.split() for line in done.stdout.decode(errors="replace").splitlines())
    there = {line[0] for line in lines if line[1:] == ["installed"]}
    return [name for name in names if name.partition(":")[0] not in there]
