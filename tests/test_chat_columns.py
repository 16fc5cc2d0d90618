"""A chat has one shape: a column is a field of its name, and what carries chats about names none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest
from chat_states import state_of

import chatcluster
from chatcluster import forks
from chatcluster.chat import SETUP_FIELDS, STORED_FIELDS, ChatSetup, ChatState, Status, stored_of
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.store import MemoryStore
from chatcluster.ports import Chat, NewChat
from chatcluster.postgres import creation, decision_writer, rows
from chatcluster.postgres.columns import MADE, column_values
from chatcluster.postgres.queries import NamedQuery, load_queries

PACKAGE = Path(chatcluster.__file__).parent
MACHINE = {"chat/decisions.py", "chat/draft.py"}
MIGRATIONS = "postgres/sql/migrations"


def places(column: str) -> Iterator[str]:
    """Where a column's name stands: files, but the machine is one place, and so are the migrations."""
    for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.sql")):
        name = str(path.relative_to(PACKAGE))
        if re.search(rf"\b{column}\b", path.read_text()):
            yield "the machine" if name in MACHINE else MIGRATIONS if name.startswith(MIGRATIONS) else name


KEYS = ("id", "owner_id")
"""All that belongs to a chat is found by them."""
EXCEPTIONS = {
    "status": {"postgres/sql/chats.sql"},  # the deadline of a chat that waits for somebody
    "retry": {"postgres/sql/chats.sql"},  # when it is
    "worker_id": {"postgres/sql/chats.sql"},  # its row is locked
    "timeline": {"postgres/columns.py"},  # the server says it
}
WHO_ACTS_ON_IT = {"turn.py", "runner.py", "turn_calls.py", "compaction.py", "chat/summaries.py"}


def test_a_column_that_the_machine_alone_knows_stands_in_four_places() -> None:
    """Its migration, its field, the commands that set it, and the one statement that ends a chat without reading it."""
    assert set(places("compacting")) == {
        MIGRATIONS,
        "chat/state.py",
        "the machine",
        "postgres/sql/claims.sql",
        *WHO_ACTS_ON_IT,
    }


def section(filename: str, name: str) -> str:
    """A query or fragment as it stands in its file, with what it stands for not yet put in, without comments."""
    text = (PACKAGE / "postgres/sql" / filename).read_text()
    found = re.search(rf"^-- (?:name|fragment): {name}\n(.*?)(?=^-- (?:name|fragment): |\Z)", text, re.M | re.S)
    assert found is not None
    return re.sub(r"^--.*\n", "", found[1], flags=re.M)


def carriers() -> dict[str, str]:
    """What carries a chat between its row, its structs and memory, file by file."""
    return {
        MIGRATIONS: "".join(path.read_text() for path in (PACKAGE / MIGRATIONS).glob("*.sql")),
        "chat/state.py": " ".join(STORED_FIELDS),
        "chat/setup.py": " ".join(ChatSetup.__annotations__),
        "ports/store.py": " ".join((*Chat.__annotations__, *NewChat.__annotations__)),
        "postgres/columns.py": (PACKAGE / "postgres/columns.py").read_text(),
        "postgres/rows.py": " ".join(rows._DECODED_FIELDS),
        "postgres/decision_writer.py": getsource(decision_writer._row_values)
        + getsource(decision_writer.new_row_values),
        "postgres/sql/fragments.sql": "".join(section("fragments.sql", name) for name in ("chat", "framed", "frame")),
        "postgres/sql/chats.sql": "".join(
            section("chats.sql", name) for name in ("insert_chat", "create_claimed", "change")
        ),
        "memory/database.py": getsource(MemoryDatabase.view),
    }


@pytest.mark.parametrize("column", [name for name in MADE.split(", ") if name not in KEYS])
def test_a_column_stands_in_at_most_four_places(column: str) -> None:
    """Its migration, its field (in two structs where a user sets it), and how it is read where it is JSON."""
    found = {name for name, text in carriers().items() if re.search(rf"\b{column}\b", text)}
    by_nature = {MIGRATIONS, "chat/state.py", "chat/setup.py", "ports/store.py", "postgres/rows.py"}
    assert MIGRATIONS in found
    assert len(found) <= 4
    assert found - by_nature <= EXCEPTIONS.get(column, set())


MAKERS = (creation.create_at_once, creation._insert_chat, forks.fork_of, MemoryStore._create)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_what_makes_a_chat_or_a_copy_of_one_names_nothing_that_its_user_gives_it(maker: Callable[..., Any]) -> None:
    """What is named in one of them is forgotten in another."""
    assert not [name for name in SETUP_FIELDS if re.search(rf"\b{name}\b", getsource(maker))]


def test_a_chat_and_a_state_have_all_that_is_stored() -> None:
    for struct in (Chat, ChatState):
        assert set(STORED_FIELDS) < set(struct.__struct_fields__)
    state = state_of(Status.ERROR, archiving=True)
    assert ChatState(**stored_of(state)) == state


def test_each_statement_that_changes_a_chat_takes_every_column() -> None:
    queries = load_queries("chats.sql")
    values = column_values(state_of(Status.RUNNING))
    for name in ("update_chat", "update_owned", "update_known"):
        assert all(f":{column}" in queries[name] for column in values)


def test_an_argument_has_one_number_however_often_it_is_named() -> None:
    query = NamedQuery("select :a::text, :b where :a is null and '12:30' <> :c::text")
    assert query.text == "select $1::text, $2 where $1 is null and '12:30' <> $3::text"
    assert query.values({"c": 3, "b": 2, "a": 1, "unused": 0}) == (1, 2, 3)
