"""What a sandbox needs to run the agent: an interpreter, and the few packages that the agent imports.

Only those are bound into it, read-only, not the environment that this process runs in. The interpreter is this
process's own, or where others than its owner cannot read that, the system's of the same version.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

LIBRARY = "/opt/chatcluster"
"""Where the agent's packages are in a sandbox."""
PACKAGES = ("trio", "h11", "msgspec", "attr", "attrs", "outcome", "sortedcontainers", "idna", "sniffio")
OWN = ("__init__.py", "json_mending.py", "workspace_wire.py", "workspace_mcp.py", "workspaces")
PROBE_SECONDS = 10.0

_PROGRAM = (
    f"import gc, sys; gc.disable(); sys.path.insert(0, {LIBRARY!r});"  # nothing that is imported is garbage
    " from chatcluster.workspaces.agent.program import main; gc.freeze(); gc.enable(); main()"
)
_NEEDED = "import ctypes, resource, sqlite3, ssl"


class Interpreter(NamedTuple):
    executable: str
    prefix: Path
    """A directory to be bound where it is, unless it is below ``/usr``."""

    def command(self) -> list[str]:
        """Alone with the agent: no site, no environment, nothing written."""
        return [self.executable, "-I", "-S", "-B", "-c", _PROGRAM]


def find_interpreter(*, readable_by_all: bool) -> Interpreter | None:
    """One that can run the agent; None if there is none that the user who runs it can read."""
    own = Interpreter(os.path.realpath(sys.executable), Path(sys.base_prefix).resolve())
    if not readable_by_all or is_open_to_all(Path(own.executable)):
        return own
    system = f"/usr/bin/python{sysconfig.get_python_version()}"
    return Interpreter(system, Path("/usr")) if _serves(system) else None


@cache
def _serves(executable: str) -> bool:
    try:
        probe = subprocess.run([executable, "-I", "-S", "-c", _NEEDED], timeout=PROBE_SECONDS, capture_output=True)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def library() -> Iterator[tuple[Path, str]]:
    """What is bound, and where."""
    package = Path(__file__).resolve().parent.parent
    for name in OWN:
        yield package / name, f"{LIBRARY}/chatcluster/{name}"
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).resolve().parent, f"{LIBRARY}/{name}"


def compile_agent() -> None:
    """Compile the agent, so that no sandbox has to: it could not keep the result."""
    compileall.compile_dir(Path(__file__).parent, quiet=2)


def is_open_to_all(path: Path) -> bool:
    """Whether anybody may read it, or what is in it, and everything on the way to it."""
    try:
        on_the_way = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
        return on_the_way and bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
