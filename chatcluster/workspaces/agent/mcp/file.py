"""What ``.mcp.json`` says: a server by a command, or at a URL. Pure, but for the file.

    {"mcpServers": {"database": {"command": "python3", "args": ["server.py"], "env": {"PORT": "${PORT:-5432}"}},
                    "web": {"type": "http", "url": "http://127.0.0.1:8080/mcp", "headers": {"X-Key": "${KEY}"}}}}

``${NAME}`` and ``${NAME:-otherwise}`` stand for variables of the workspace's environment. An entry that is none costs
that server, a file that is none costs all of them; it is said which, and why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from chatcluster.json_mending import decoded
from chatcluster.workspace_mcp import SERVERS_MAX
from chatcluster.workspace_wire import Code
from chatcluster.workspaces.agent import files
from chatcluster.workspaces.agent.names import Places
from chatcluster.workspaces.agent.refused import Refused

FILE_NAME = ".mcp.json"
FILE_BYTES_MAX = 64 << 10
NAME_CHARACTERS_MAX = 64
HTTP_TYPES = ("http", "streamable-http")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,100})(?::-([^}]{0,1000}))?\}")


class Config(NamedTuple):
    """A server that is to run: by its ``argv``, or at its ``url``."""

    argv: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Wrong(NamedTuple):
    """Why an entry, or the file, is none."""

    words: str


class _File(msgspec.Struct):
    mcpServers: dict[str, Any] = {}


class _Entry(msgspec.Struct):
    type: str = ""
    command: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str = ""
    headers: dict[str, str] = {}
    disabled: bool = False


def configs(places: Places) -> dict[str, Config | Wrong] | Wrong:
    """The servers by name, in their order; none where there is no file."""
    try:
        found = files.read(places, FILE_NAME, 0, FILE_BYTES_MAX)
    except Refused as refused:
        return {} if refused.code is Code.FILE_NOT_FOUND else Wrong(f"{FILE_NAME} cannot be read: {refused.message}")
    if found.size_bytes > len(found.content):
        return Wrong(f"{FILE_NAME} has more than {FILE_BYTES_MAX} bytes")
    return parsed(found.content, os.environ)


def parsed(content: bytes, environment: Mapping[str, str]) -> dict[str, Config | Wrong] | Wrong:
    try:
        entries = decoded(content, _File).mcpServers
    except (msgspec.MsgspecError, RecursionError) as error:
        return Wrong(f"{FILE_NAME} is not what it should be: {error}")
    if len(entries) > SERVERS_MAX:
        return Wrong(f"{FILE_NAME} names more than {SERVERS_MAX} servers")
    read = {name: _config(name, entry, environment) for name, entry in entries.items()}
    return {name[:NAME_CHARACTERS_MAX]: config for name, config in read.items() if config is not None}


def _config(name: str, value: Any, environment: Mapping[str, str]) -> Config | Wrong | None:
    """None for one that is switched off."""
    try:
        entry = msgspec.convert(value, _Entry)
        if entry.disabled:
            return None
        return _checked(name, entry, environment)
    except (msgspec.ValidationError, ValueError) as error:
        return Wrong(f"its entry in {FILE_NAME}: {error}")


def _checked(name: str, entry: _Entry, environment: Mapping[str, str]) -> Config:
    """Raises ``ValueError``."""
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise ValueError(f"the name of a server has 1 to {NAME_CHARACTERS_MAX} characters that can be seen")
    if entry.url and entry.type in ("", *HTTP_TYPES):
        url = _filled(entry.url, environment)
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError("url is not one of http or https")
        return Config(url=url, headers=_pairs(entry.headers, environment))
    if entry.command and entry.type in ("", "stdio"):
        argv = tuple(_filled(word, environment) for word in (entry.command, *entry.args))
        pairs = _pairs(entry.env, environment)
        if any("\0" in word for word in (*argv, *(part for pair in pairs for part in pair))):
            raise ValueError("a command and its environment have no zero bytes")
        return Config(argv=argv, environment=pairs)
    if entry.type not in ("", "stdio", *HTTP_TYPES):
        raise ValueError(f"type is stdio or http, not {entry.type[:40]!r}")
    raise ValueError("it has neither a command nor a url that goes with its type")


def _pairs(values: Mapping[str, str], environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Raises ``ValueError``."""
    if any(not name or "=" in name for name in values):
        raise ValueError("names are not empty and have no =")
    return tuple((name, _filled(value, environment)) for name, value in values.items())


def _filled(text: str, environment: Mapping[str, str]) -> str:
    """Raises ``ValueError`` for a variable that is not there."""

    def value(found: re.Match[str]) -> str:
        if (known := environment.get(found[1])) is not None:
            return known
        if found[2] is None:
            raise ValueError(f"there is no variable {found[1]}, and no other value is said")
        return found[2]

    return _VARIABLE.sub(value, text)
