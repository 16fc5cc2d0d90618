"""The load balancer of a run: HAProxy or nginx, started with the very files in ``deploy/`` that users are given.

What is a user's own in those files is in a file beside them, which is written here: where the replicas are, and
where clients come in. The replicas are those of the cluster, each on the port of its own that it keeps through
restarts. Everything goes through the proxy then, writers and readers alike.

A program that is missing is installed, from Debian's package, where we may do that; its service is not started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import trio
from local_ports import free_port

from chaos.api import Api
from chaos.cluster import Cluster
from chaos.options import Options
from chatcluster.local.embedded import child

DEPLOY = Path(__file__).parents[2] / "deploy"
START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 5.0
INSTALL_SECONDS_MAX = 300.0
POLL_SECONDS = 0.05
NOT_STARTED = "#!/bin/sh\nexit 101\n"
"""What Debian's packages ask before they start a service."""
POLICY = Path("/usr/sbin/policy-rc.d")


@asynccontextmanager
async def open_front(options: Options, cluster: Cluster) -> AsyncIterator[Cluster]:
    """The cluster as its clients shall reach it, for the length of the block.

    Raises ``RuntimeError`` if the proxy cannot be installed or started.
    """
    if not options.cluster.proxy:
        yield cluster
        return
    assert cluster.logs is not None, "the options were checked: it is a cluster of our own"
    program = await _program(options.cluster.proxy)
    directory = cluster.logs.parent / options.cluster.proxy
    directory.mkdir(mode=0o755)
    port = free_port()
    command = COMMANDS[options.cluster.proxy](program, directory, port, await _addresses(options, cluster))
    log = cluster.logs / f"{options.cluster.proxy}.log"
    environment = os.environ | {"CHATCLUSTER_BIND": f"127.0.0.1:{port}"}
    process = child.spawn(command, log=log, death_signal=signal.SIGTERM, environment=environment)
    try:
        await accepts(process, port, log)
        yield cluster._replace(url=f"http://127.0.0.1:{port}", home=cluster.url if options.cluster.beside else None)
    finally:
        with trio.CancelScope(shield=True):  # bounded by the escalation to SIGKILL
            await trio.to_thread.run_sync(partial(child.stop, process, (signal.SIGTERM, STOP_SECONDS_MAX)))


def _haproxy(program: str, directory: Path, _: int, addresses: Sequence[str]) -> list[str]:
    replicas = directory / "haproxy-replicas.cfg"
    servers = [f"    server replica-{number} {address}\n" for number, address in enumerate(addresses, 1)]
    replicas.write_text("".join(["backend replicas\n", *servers]))
    return [program, "-db", "-f", str(DEPLOY / "haproxy.cfg"), "-f", str(replicas)]


def _nginx(program: str, directory: Path, port: int, addresses: Sequence[str]) -> list[str]:
    """nginx looks for the files that are included beside the one that includes them."""
    configuration = directory / "nginx.conf"
    configuration.symlink_to(DEPLOY / "nginx.conf")
    servers = [f"server {address} max_fails=1 fail_timeout=1s;\n" for address in addresses]
    (directory / "nginx-replicas.conf").write_text("".join(servers))
    (directory / "nginx-listen.conf").write_text(f"listen 127.0.0.1:{port};\n")
    own = f"daemon off; pid {directory / 'nginx.pid'};"
    return [program, "-c", str(configuration), "-e", "stderr", "-g", own]


COMMANDS = {"haproxy": _haproxy, "nginx": _nginx}
"""By program: the command that runs it. ``(program, directory for files, port, replicas' addresses)``."""


async def _addresses(options: Options, cluster: Cluster) -> list[str]:
    """Where the replicas are, by the cluster's own word."""
    api = Api(cluster.url, cluster.token, options.draw("proxy"))
    try:
        answer = await api.read("/replicas")
    finally:
        await api.aclose()
    return sorted(replica["address"] for replica in answer["replicas"])


async def accepts(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    with trio.move_on_after(START_SECONDS_MAX):
        while process.poll() is None:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(POLL_SECONDS)
            else:
                await stream.aclose()
                return
    raise RuntimeError(f"the proxy does not start: {child.last_line(log, 'emerg', 'ALERT')}")


# --- the program ----------------------------------------------------------------------------------


async def _program(name: str) -> str:
    """The path of the program, installed if need be. Raises ``RuntimeError``."""
    found = find_program(name)
    if found is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise RuntimeError(f"there is no {name} here: install it (on Debian: apt-get install {name})")
        await _install(name)
        found = find_program(name)
    if found is None:
        raise RuntimeError(f"{name} was installed, and is not to be found")
    return found


def find_program(name: str) -> str | None:
    """Where daemons are is on the PATH of root only."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


async def _install(name: str) -> None:
    with _services_not_started(), trio.fail_after(INSTALL_SECONDS_MAX):
        done = await trio.run_process(
            ["apt-get", "install", "--yes", "--no-install-recommends", name],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"apt-get could not install {name}: {words[-1] if words else done.returncode}")


@contextmanager
def _services_not_started() -> Iterator[None]:
    if POLICY.exists():  # somebody has said already what is started here
        yield
        return
    POLICY.write_text(NOT_STARTED)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
