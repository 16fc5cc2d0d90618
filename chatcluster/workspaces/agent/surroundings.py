"""What a model is told of the place: the system, the directory, and the AGENTS.md of home and of the directory."""

from __future__ import annotations

import os
from contextlib import suppress

from chatcluster.workspace_wire import INSTRUCTION_BYTES_MAX, InstructionFile, InstructionsAnswer
from chatcluster.workspaces.agent import files
from chatcluster.workspaces.agent.names import Places, resolved, shown
from chatcluster.workspaces.agent.refused import Refused

INSTRUCTIONS_NAME = b"AGENTS.md"


def instructions(places: Places, directory: str) -> InstructionsAnswer:
    """The instructions, those of home first. A file that is the same as one before is left out. Raises ``Refused``."""
    work = places.directory(directory)
    paths: dict[bytes, None] = {}
    for folder in (places.home, work):
        with suppress(OSError):
            paths[resolved(os.path.join(folder, INSTRUCTIONS_NAME))] = None
    found = tuple(file for path in paths if (file := _instruction_file(places, shown(path))) is not None)
    return InstructionsAnswer(os=system_name(), home=shown(places.home), directory=shown(work), files=found)


def _instruction_file(places: Places, path: str) -> InstructionFile | None:
    try:
        answer = files.read(places, path, 0, INSTRUCTION_BYTES_MAX)
    except Refused:
        return None
    return InstructionFile(
        path=path,
        content=answer.content.decode("utf-8", "replace"),
        size_bytes=answer.size_bytes,
        is_truncated=answer.size_bytes > len(answer.content),
    )


def system_name() -> str:
    """The system's name, such as "Debian GNU/Linux 12 (bookworm), x86_64"."""
    machine = os.uname()
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            values = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except (OSError, UnicodeDecodeError):
        values = {}
    return f"{values.get('PRETTY_NAME', machine.sysname).strip(chr(34))}, {machine.machine}"
