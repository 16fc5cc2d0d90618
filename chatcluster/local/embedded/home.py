"""Whom Postgres runs as, and the directory that it keeps its files in.

Postgres refuses to run as root. As root it runs as an existing unprivileged user instead. The data
directory may lie where that user cannot go (a clone under ``/root``, or in a private temporary
directory); nothing that we did not create is opened up for it. Postgres then gets a home elsewhere, which
a small file ``postgres.location`` in the data directory names.

The home is a directory of mode 0700 that belongs to that user. Its Unix socket is the only way to the
server and lies in it, too, so who may connect is decided by the file system.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatcluster.errors import ConfigError
from chatcluster.local.embedded.child import Identity

LOCATION_FILE = "postgres.location"
SHARED_HOMES = (Path("/var/lib/chatcluster"), Path("/var/tmp"))
UNPRIVILEGED_USERS = ("nobody", "daemon", "postgres")
SOCKET_PATH_BYTES_MAX = 100
"""Linux takes 107, others 103."""


def choose_identity(home: Path | None) -> Identity | None:
    """None when we are not root; else the owner of ``home`` if it has one already, else an unprivileged user."""
    if os.geteuid() != 0:
        return None
    if home is not None and home.exists() and (owner := home.stat()).st_uid != 0:
        return Identity(owner.st_uid, owner.st_gid)
    for name in UNPRIVILEGED_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(user.pw_uid, user.pw_gid)
    raise ConfigError(
        f"Postgres does not run as root, and there is no user {' or '.join(UNPRIVILEGED_USERS)} to run it as: "
        "create one, run this as another user, or give a --database-url"
    )


def existing_home(data_dir: Path) -> Path | None:
    """The home of an earlier start, if there was one."""
    location = data_dir / LOCATION_FILE
    if location.exists():
        home = Path(location.read_text().strip())
        if not home.is_dir():
            raise ConfigError(f"{location} names {home}, which is gone: restore it, or remove {location} to start anew")
        return home
    home = data_dir / "postgres"
    return home if home.is_dir() else None


def create_home(data_dir: Path, identity: Identity | None) -> Path:
    """A new home: in ``data_dir`` where the server's user can go there, elsewhere otherwise."""
    if identity is None or can_enter(data_dir, identity):
        home = data_dir / "postgres"
        home.mkdir(mode=0o700)
    else:
        home = _create_shared_home(data_dir)
        (data_dir / LOCATION_FILE).write_text(f"{home}\n")
    if identity is not None:
        os.chown(home, identity.uid, identity.gid)
    return home


def _create_shared_home(data_dir: Path) -> Path:
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]
    for parent in SHARED_HOMES:
        try:
            parent.mkdir(mode=0o755, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"chatcluster-{digest}-", dir=parent))
        except OSError:
            continue
    raise ConfigError(f"no place for Postgres: neither {' nor '.join(map(str, SHARED_HOMES))} can be written to")


def can_enter(directory: Path, identity: Identity) -> bool:
    """Whether the user may pass through ``directory`` and all above it, by their permission bits."""
    path = directory.resolve()
    return all(_may_search(level.stat(), identity) for level in (path, *path.parents))


def _may_search(status: os.stat_result, identity: Identity) -> bool:
    if status.st_uid == identity.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == identity.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def socket_directory(home: Path, identity: Identity | None) -> Path:
    """``home`` itself, or a private directory with a short name where its own is too long for a socket.

    So it is where the name has a comma, which separates directories for Postgres and hosts for its clients.
    """
    if "," not in str(home) and len(os.fsencode(home / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES_MAX:
        return home
    uid = identity.uid if identity else os.geteuid()
    gid = identity.gid if identity else os.getegid()
    short = Path("/tmp") / f"chatcluster-{uid}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    try:
        short.mkdir(mode=0o700)
        os.chown(short, uid, gid)
    except FileExistsError:
        status = short.lstat()  # anybody may have made it: /tmp is open to all
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
            raise ConfigError(f"{short} is not a private directory of user {uid}: remove it") from None
    return short


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``; raises ``ConfigError`` at once if another holds it.

    The kernel lets go of it when this process ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{path.parent} is in use by another chatcluster that is running") from None
        yield
    finally:
        os.close(descriptor)
