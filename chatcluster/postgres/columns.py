"""The columns of a chat as SQL reads and writes them: each is a field of its name.

``StoredState`` has those that decisions change, ``ChatSetup`` those that the chat's user does, and ``NewChat`` those
that a chat is made with. So a new column is a migration, its field, and what sets it; nothing here names it. Of which
kind a column is, its field's type says: a struct, or a tuple of structs or numbers, is JSON, a tuple of texts an array.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from chatcluster.chat import AS_IT_IS, SETUP_FIELDS, STORED_FIELDS, ChatSetup, StoredState, stored_of
from chatcluster.ports import Chat, NewChat
from chatcluster.postgres.rows import json_of

_KEYS = ("id", "owner_id")
"""Every statement names them itself."""
_JSON, _ARRAY = "::text::json", "::text[]"


class Column(NamedTuple):
    """A field, and what its type says of the column."""

    name: str
    type: Any
    is_state: bool

    @property
    def cast(self) -> str:
        """What turns an argument into its value, where the column does not say it."""
        if get_origin(self.type) is tuple:
            return _ARRAY if get_args(self.type)[0] is str else _JSON
        kinds = [kind for kind in (self.type, *get_args(self.type)) if isinstance(kind, type)]
        return _JSON if any(issubclass(kind, msgspec.Struct) for kind in kinds) else ""

    @property
    def is_name(self) -> bool:
        """Whether people give it, as a text."""
        return not self.is_state and self.type in (str, str | None)

    @property
    def is_long(self) -> bool:
        return self.is_name or bool(self.cast)

    @property
    def read(self) -> str:
        """Whatever is stored, names are short: they come with the rows of other chats."""
        return f"left(chats.{self.name}, 1000) as {self.name}" if self.is_name else f"chats.{self.name}"

    @property
    def unread(self) -> str:
        if self.type is str:
            return f"'(this {self.name} cannot be read)'::text as {self.name}"
        return f"null{self.cast or '::text'} as {self.name}"

    @property
    def made(self) -> str:
        """A chat's timeline is that of the server that makes it."""
        return "wal_timeline()" if self.name == "timeline" else f":{self.name}{self.cast}"


_types = {field.name: field.type for field in msgspec.structs.fields(Chat)}
_state = [Column(name, _types[name], is_state=True) for name in STORED_FIELDS]
_made_with = [Column(name, _types[name], is_state=False) for name in NewChat.__struct_fields__ if name in _types]
_all = (*_state, *_made_with)
_read = [column for column in _all if column.name not in _KEYS]
_cast = {column.name: column.cast for column in _all}

SHORT = ", ".join(column.read for column in _read if not column.is_long)
LONG = ", ".join(column.read for column in _read if column.is_long)
"""Columns whose values the server may keep elsewhere, and so fail to read where it is damaged."""
UNREAD = ", ".join(column.unread for column in _read if column.is_long)
"""The same, untouched."""
CHANGED = ",\n    ".join(f"{name} = :{name}{_cast[name]}" for name in STORED_FIELDS)
SET_UP = ",\n    ".join(
    f"{name} = case when :{name}_chosen::boolean then :{name}{_cast[name]} else {name} end" for name in SETUP_FIELDS
)
MADE = ", ".join(column.name for column in _all)
MADE_VALUES = ", ".join(column.made for column in _all)

_texts = [column.name for column in _state if isinstance(column.type, type) and issubclass(column.type, StrEnum)]
_json = [name for name, cast in _cast.items() if cast == _JSON]
_arrays = [name for name, cast in _cast.items() if cast == _ARRAY]
_json_of_state = [name for name in _json if name in STORED_FIELDS]


def column_values(state: StoredState) -> dict[str, object]:
    """The arguments that ``CHANGED`` takes."""
    values = stored_of(state)
    for name in _texts:
        values[name] = str(values[name])
    for name in _json_of_state:
        values[name] = json_of(values[name] or None)
    return values


def setup_values(setup: ChatSetup | None) -> dict[str, object]:
    """The arguments that ``SET_UP`` takes."""
    return _nothing_chosen if setup is None else _setup_values(setup)


def _setup_values(setup: ChatSetup) -> dict[str, object]:
    chosen = setup.chosen
    choices = {f"{name}_chosen": name in chosen for name in SETUP_FIELDS}
    return choices | dict.fromkeys(SETUP_FIELDS) | _given(chosen)


def made_values(chat: NewChat, state: StoredState) -> dict[str, object]:
    """The arguments that ``MADE_VALUES`` takes."""
    return column_values(state) | _given({name: getattr(chat, name) for name, *_ in _made_with})


def _given(values: dict[str, Any]) -> dict[str, object]:
    """What the columns of these names take; empty ones are null."""
    values |= {name: json_of(values[name] or None) for name in _json if name in values}
    return values | {name: list(values[name]) or None for name in _arrays if name in values}


_nothing_chosen = _setup_values(AS_IT_IS)
