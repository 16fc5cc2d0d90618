"""A sandbox: what bubblewrap is told, so that what runs in it can do no harm outside.

It has namespaces of its own for users, processes, mounts, network, names and control groups, no capability, and can
make no further user namespace; some system calls are not there for it (``agent/seccomp.py``). It sees the system
read-only, ``/etc`` in part, and may write its home, its work, and temporary file systems of a bounded size, but not the
agent's directory (``agent/landlock.py``). It has no network but its own loopback; where its template lists what it may
reach, the socket of a proxy is bound into it (``network_proxy.py``). Its environment is made here: nothing of this
process's is in it. Process 1 is the agent, and when that or this process ends, so does all that runs there.

Where this process is root, the sandbox of each owner has a user of its own outside as well, and its own file system of
a bounded size, if the machine has what that takes; what cannot be kept is said (``unbounded``), not passed over.

It is one kernel for all. For tenants that would attack a kernel a stronger wall is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from chatcluster.ports.workspace import WorkspaceLimits, WorkspaceSpec
from chatcluster.workspaces.agent.gateway import PORT
from chatcluster.workspaces.agent.seccomp import seccomp_filter
from chatcluster.workspaces.interpreter import Interpreter, library
from chatcluster.workspaces.places import Place

HOME = "/home/user"
WORK = "/workspace"
STATE = "/run/chatcluster"
NETWORK = "/run/network"
PROXY_NAME = "proxy.sock"
USER_ID = 1000
"""Inside."""
SHARED_MEMORY_BYTES_MAX = 256 << 20
AGENT_BYTES = 24 << 20
"""Memory that the agent has use for, and a shell."""
TMPFS_BYTES_MIN = 1 << 20
RUN_BYTES = 1 << 20
"""Nothing is kept there, but where there is no Landlock a command can fill it."""
DISPLAY = ":1"
BROWSER_FLAGS = "--no-sandbox --no-first-run --disable-gpu --disable-dev-shm-usage --test-type"
"""Flags of Debian's Chromium. A browser's own sandbox takes what is taken away here; this one is around it."""
PROBE_SECONDS = 10.0

INSTALL = "workspaces need bubblewrap 0.8 or newer (on Debian: apt-get install bubblewrap)"
ALLOW = (
    "workspaces need user namespaces, which this machine does not allow here (see the sysctls user.max_user_namespaces,"
    " kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)"
)

_WALLS = [
    *("--unshare-user", "--unshare-all", "--disable-userns", "--as-pid-1", "--die-with-parent", "--new-session"),
    *("--clearenv", "--cap-drop", "ALL", "--hostname", "workspace", "--uid", str(USER_ID), "--gid", str(USER_ID)),
]
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl/certs", "ssl/openssl.cnf", "ca-certificates"),
    *("os-release", "debian_version", "localtime", "timezone", "mime.types", "magic", "services", "protocols"),
    *("bash.bashrc", "profile", "inputrc", "terminfo", "locale.alias", "perl", "fonts", "xdg", "X11", "chromium"),
    *("java", "gai.conf"),
)
"""What of the system's ``/etc`` programs want, and tells nothing of its people or its secrets."""
_GATEWAY = f"http://127.0.0.1:{PORT}"
_NO_PROXY = "localhost,127.0.0.1,::1"
PROXY = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _GATEWAY),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), _NO_PROXY),
}
"""The proxy as programs look for it: some in capital letters, some in small ones."""
_PATH = f"{HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@cache
def can_sandbox() -> str | None:
    """None if sandboxes can be made on this machine; else one line that says what is missing."""
    if shutil.which("bwrap") is None:
        return INSTALL
    probe = ["bwrap", *_WALLS, *_system(None), "--proc", "/proc", "--dev", "/dev", "--", "/usr/bin/env", "true"]
    try:
        tried = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{INSTALL}; bwrap: {error}"
    if tried.returncode == 0:
        return None
    said = " ".join(tried.stderr.split())[:200]
    return f"{INSTALL}; bwrap: {said}" if "nknown option" in said else f"{ALLOW}; bwrap: {said}"


def tmp_bytes(limits: WorkspaceLimits) -> int:
    """What is in there is memory of the workspace. With all of it there the agent would have none."""
    return max(TMPFS_BYTES_MIN, min(limits.tmp_bytes, _beside_the_agent(limits) // 2))


def shared_memory_bytes(limits: WorkspaceLimits) -> int:
    """As ``tmp_bytes``."""
    return max(TMPFS_BYTES_MIN, min(SHARED_MEMORY_BYTES_MAX, _beside_the_agent(limits) // 4))


def _beside_the_agent(limits: WorkspaceLimits) -> int:
    return max(0, limits.memory_bytes - AGENT_BYTES)


def bubblewrap(spec: WorkspaceSpec, place: Place, interpreter: Interpreter, door: int) -> list[str]:
    """The command that makes the sandbox and runs the agent in it. ``door``: the descriptor of a socket that listens,
    for the agent."""
    return [
        *(
            "bwrap",
            *_WALLS,
            *_system(Path(spec.base) if spec.base else None),
            *_agent(interpreter),
            *_own(spec, place),
            *_environment(spec),
            *(("--seccomp", "8") if place.filter.exists() else ()),  # opened by launch.sh
            "--",
        ),
        *interpreter.command(),
        *(f"--state={STATE}", f"--home={HOME}", f"--work={WORK}", f"--listen-fd={door}"),
        f"--output-bytes-max={spec.limits.output_bytes_max}",
        f"--processes-max={spec.limits.processes_max}",
        f"--open-files-max={spec.limits.open_files_max}",
        f"--file-bytes-max={spec.limits.disk_bytes}",
        *([f"--screen={spec.screen[0]}x{spec.screen[1]}"] if spec.desktop else []),
        *([f"--gateway={NETWORK}/{PROXY_NAME}"] if spec.allowed_hosts else []),
    ]


def write_etc(place: Place) -> None:
    """The files of ``/etc`` that name people and machines: there is one of each; and the filter of its system calls.
    Raises ``OSError``."""
    (place.etc / "chromium.d").mkdir(parents=True, exist_ok=True)
    files = {
        "passwd": f"user:x:{USER_ID}:{USER_ID}:user:{HOME}:/bin/bash\n",
        "group": f"user:x:{USER_ID}:\n",
        "hosts": "127.0.0.1 localhost workspace\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": "",
        "chromium.d/flags": f"CHROMIUM_FLAGS={BROWSER_FLAGS!r}\n",
    }
    for name, content in files.items():
        (place.etc / name).write_text(content)
    place.filter.unlink(missing_ok=True)
    if (program := seccomp_filter()) is not None:
        place.filter.write_bytes(program)


def _system(root: Path | None) -> Iterator[str]:
    """The system, read-only: this machine's, or a template's."""
    top = root or Path("/")
    yield from ("--ro-bind", str(top / "usr"), "/usr")
    for name in _TOP:
        if (top / name).is_symlink():
            yield from ("--symlink", os.readlink(top / name), f"/{name}")
        elif (top / name).is_dir():
            yield from ("--ro-bind", str(top / name), f"/{name}")
    for name in _ETC:
        yield from ("--ro-bind-try", str(top / "etc" / name), f"/etc/{name}")


def _agent(interpreter: Interpreter) -> Iterator[str]:
    if not interpreter.prefix.is_relative_to("/usr"):
        yield from ("--ro-bind", str(interpreter.prefix), str(interpreter.prefix))
    for source, target in library():
        yield from ("--ro-bind", str(source), target)


def _own(spec: WorkspaceSpec, place: Place) -> Iterator[str]:
    """What belongs to this sandbox alone."""
    yield from ("--proc", "/proc", "--dev", "/dev")
    sizes = {"/tmp": tmp_bytes(spec.limits), "/dev/shm": shared_memory_bytes(spec.limits), "/run": RUN_BYTES}
    for directory, size in sizes.items():
        yield from ("--size", str(size), "--tmpfs", directory)
    yield from ("--dir", "/var", "--symlink", "/tmp", "/var/tmp", "--ro-bind-try", "/var/cache/fontconfig")
    yield "/var/cache/fontconfig"
    for name in ("passwd", "group", "hosts", "nsswitch.conf", "resolv.conf", "chromium.d"):
        yield from ("--ro-bind", str(place.etc / name), f"/etc/{name}")
    yield from ("--bind", str(place.home), HOME, "--bind", str(place.work), WORK, "--bind", str(place.state), STATE)
    if spec.allowed_hosts:
        yield from ("--ro-bind", str(place.network), NETWORK)
    yield from ("--args", "9")  # of launch.sh, which can look into the work
    yield from ("--chdir", WORK, "--remount-ro", "/")


def _environment(spec: WorkspaceSpec) -> Iterator[str]:
    values = {"PATH": _PATH, "HOME": HOME, "USER": "user", "LOGNAME": "user", "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
    desktop = {"DISPLAY": DISPLAY} if spec.desktop else {}
    network = PROXY if spec.allowed_hosts else {}
    for name, value in {**values, "TERM": "dumb", "TMPDIR": "/tmp", **desktop, **network, **spec.environment}.items():
        yield from ("--setenv", name, value)
