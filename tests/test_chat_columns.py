"""A chat has one shape: a column is a field of ``StoredState``, and what carries chats about names none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_states import state_of

import chatcluster
from chatcluster.chat import STORED_FIELDS, ChatState, Status, stored_of
from chatcluster.ports import Chat
from chatcluster.postgres.columns import column_values
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


@pytest.mark.parametrize("column", ["archiving", "failures", "queue_version", "reset_version"])
def test_what_carries_a_chat_between_its_row_and_its_struct_names_no_column(column: str) -> None:
    carriers = {
        "memory/database.py",
        "postgres/columns.py",
        "postgres/decision_writer.py",
        "postgres/rows.py",
        "postgres/sql/fragments.sql",
    }
    assert carriers.isdisjoint(places(column))


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
