"""Which host this is: the directory of the workspaces says so, as their files are what a host is known by. It says as
well which incarnation of the host was the last one there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

from chatcluster.errors import ConfigError

ID_FILE = "host-id"
INCARNATION_FILE = "incarnation"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_id_of(directory: Path) -> UUID:
    """The ID in it, which is made if there is none. Raises ``ConfigError`` where it cannot be read or written."""
    path = directory / ID_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            partial = path.with_name(ID_FILE + ".partial")
            partial.write_text(f"{uuid4()}\n")
            partial.replace(path)
        return UUID(path.read_text().strip())
    except OSError as error:
        raise ConfigError(f"workspaces-dir {directory} cannot be used: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path} does not have the ID of a host; is it another program's?") from None


class Incarnations:
    """The incarnations of one directory. A host that has its lock knows that they have ended. A copy of the directory
    has this file as well, so it says where it was written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / INCARNATION_FILE

    @property
    def last(self) -> UUID | None:
        """None where it is not known."""
        try:
            incarnation, _, where = self._path.read_text().strip().partition(" ")
            return UUID(incarnation) if where == self._where() else None
        except (OSError, ValueError):
            return None

    def begin(self, incarnation: UUID) -> None:
        with suppress(OSError):  # the next one begins later, and no worse
            self._path.write_text(f"{incarnation} {self._where()}\n")

    def _where(self) -> str:
        """This directory, on this machine since it was started. Raises ``OSError``."""
        return f"{BOOT_ID.read_text().strip()} {self._directory.stat().st_ino}"
