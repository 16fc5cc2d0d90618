"""Which host this is: the directory of the workspaces says so, as their files are what a host is known by."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from chatcluster.errors import ConfigError

ID_FILE = "host-id"


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
