"""What `chatcluster up` leaves in its data directory, so that other commands find the cluster on this machine.

``cluster.json`` tells where it listens and which servers it uses, while it runs; ``token`` holds the API
token of the first start, for as long as the database knows it; ``encryption-keys`` the keys of the secrets in the
database, as ``CHATCLUSTER_ENCRYPTION_KEYS`` has them; ``push-key`` the one that push services know. All are for their
owner's eyes (0600).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from chatcluster.config import env_name
from chatcluster.errors import ConfigError
from chatcluster.setting_checks import check_header_text, check_http_url, is_on_this_machine
from chatcluster.setting_fields import settings_of
from chatcluster.workspaces.host.settings import HostSettings

DEFAULT_DATA_DIR = Path(".chatcluster")
CLUSTER_FILE = "cluster.json"
TOKEN_FILE = "token"
KEYS_FILE = "encryption-keys"
PUSH_KEY_FILE = "push-key"
SHARED_WORKSPACES = Path("/var/lib/chatcluster/workspaces")


class LocalCluster(msgspec.Struct, frozen=True):
    url: str
    database_url: str
    redis_url: str
    pid: int
    """The process ID of the supervisor."""


def write_cluster(data_dir: Path, cluster: LocalCluster) -> None:
    _write_private(data_dir / CLUSTER_FILE, msgspec.json.encode(cluster))


def remove_cluster(data_dir: Path) -> None:
    (data_dir / CLUSTER_FILE).unlink(missing_ok=True)


def read_cluster(data_dir: Path) -> LocalCluster | None:
    """The cluster that runs on ``data_dir``, None if none does."""
    content = _read(data_dir / CLUSTER_FILE)
    if content is None:
        return None
    try:
        cluster = msgspec.json.decode(content, type=LocalCluster)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{data_dir / CLUSTER_FILE} is damaged: {error}") from None
    return cluster if _is_running(cluster.pid) else None


def write_token(data_dir: Path, token: str) -> None:
    _write_private(data_dir / TOKEN_FILE, f"{token}\n".encode())


def read_token(data_dir: Path) -> str | None:
    content = _read(data_dir / TOKEN_FILE)
    return content.decode(errors="replace").strip() if content is not None else None


def write_encryption_keys(data_dir: Path, keys: str) -> None:
    _write_private(data_dir / KEYS_FILE, f"{keys}\n".encode())


def read_encryption_keys(data_dir: Path) -> str:
    """Empty if there are none."""
    content = _read(data_dir / KEYS_FILE)
    return "" if content is None else content.decode(errors="replace").strip()


def push_key(data_dir: Path) -> str:
    """The key that push services know; it is made if there is none."""
    content = _read(data_dir / PUSH_KEY_FILE)
    if content is not None and (key := content.decode(errors="replace").strip()):
        return key
    from chatcluster.push_encryption import new_push_key

    key = new_push_key()
    _write_private(data_dir / PUSH_KEY_FILE, f"{key}\n".encode())
    return key


def host_environment(data_dir: Path) -> dict[str, str]:
    """What a host of workspaces is told: where it has its files, and whatever our environment says of hosts."""
    names = [env_name(item.name) for item in settings_of(HostSettings)]
    said = {name: os.environ[name] for name in names if name in os.environ}
    return {env_name("workspaces_dir"): str(workspaces_dir(data_dir)), **said}


def workspaces_dir(data_dir: Path) -> Path:
    """Where workspaces have their files: in the data directory, but where their owners have user IDs of their own (we
    are root) and could not go there, a place that is open to all."""
    inside = data_dir / "workspaces"
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in (data_dir, *data_dir.parents)):
        return inside
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return SHARED_WORKSPACES / name


def reach(url: str | None, token: str | None, data_dir: Path) -> tuple[str, str]:
    """URL and token of the cluster that is meant; those that are not given are of the one on this machine.

    Raises ``ConfigError``.
    """
    if not url:
        local = read_cluster(data_dir)
        if local is None:
            raise ConfigError(
                f"no cluster runs on {data_dir}: start one with `chatcluster up`, or give --url and --token"
            )
        url, token = local.url, token or read_token(data_dir)
    check_http_url("--url", url)
    if not token and is_on_this_machine(url):  # an administrator's, and sent nowhere else
        token = read_token(data_dir)
    if not token:
        raise ConfigError("give --token (or CHATCLUSTER_TOKEN)")
    check_header_text("--token", token)
    return url, token


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _write_private(path: Path, content: bytes) -> None:
    """Replace the file in one step; nobody else can read it at any moment."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    partial.replace(path)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
