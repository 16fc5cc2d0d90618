"""The one place where errors of the driver become ours: over all that asyncpg can raise."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Iterator

import asyncpg
import pytest

from chatcluster.errors import (
    ChatclusterError,
    ConfigError,
    InvalidRequest,
    StoreFailed,
    StoreLocked,
    StoreRefused,
    StoreUnavailable,
    Unreadable,
)
from chatcluster.postgres.connecting import connect
from chatcluster.postgres.translation import LOST, RAISED, Translated, translate
from chatcluster.setting_sections import Servers
from chatcluster.web.errors import answer

ROOTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def every_error() -> Iterator[type[Exception]]:
    for _, value in inspect.getmembers(asyncpg.exceptions, inspect.isclass):
        if issubclass(value, ROOTS) and issubclass(value, Exception):
            yield value


EVERY_ERROR = sorted(every_error(), key=lambda error: error.__name__)


def test_there_is_something_to_look_at() -> None:
    assert len(EVERY_ERROR) > 250


async def test_a_certificate_that_nobody_vouches_for_is_no_malformed_url(monkeypatch: pytest.MonkeyPatch) -> None:
    async def distrusted(*_: object, **__: object) -> None:
        raise ssl.SSLCertVerificationError("self-signed certificate")  # which is a ValueError

    monkeypatch.setattr(asyncpg, "connect", distrusted)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(Servers(), "test", "postgres://x@127.0.0.1/x")


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.__name__)
def test_no_error_of_the_driver_gets_out_of_the_adapter(error: type[Exception]) -> None:
    """P10: a loop that serves many chats knows ``StoreUnavailable``, and nothing of the driver's."""
    with pytest.raises((StoreUnavailable, InvalidRequest, ConfigError)) as caught, Translated():
        raise error("from the server")
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("error", LOST, ids=lambda error: error.__name__)
def test_a_connection_that_is_lost_is_no_defect_of_the_call(error: type[Exception]) -> None:
    assert not isinstance(translate(error("lost")), StoreFailed)


def server_error(sqlstate: str, message: str = "of the server") -> asyncpg.PostgresError:
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": sqlstate, "M": message, "S": "ERROR"})
    return error


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("22003", StoreFailed),  # a number out of range
        ("22P02", StoreFailed),  # JSON that is none
        ("23514", StoreFailed),  # a broken CHECK
        ("54000", StoreFailed),  # a value that is too large
        ("XX000", StoreFailed),  # a chunk of a value that is missing
        ("XX001", StoreFailed),  # a damaged row
        ("58030", StoreFailed),  # a block that cannot be read
        ("P0001", StoreFailed),  # a trigger of the operator's
        ("0A000", StoreFailed),
        ("ZZ999", StoreFailed),  # of a version to come
        ("53200", StoreUnavailable),  # memory: it is the server's
        ("53100", StoreUnavailable),  # the disk
        ("53300", StoreUnavailable),  # connections
        ("42703", StoreUnavailable),  # a column of another schema
        ("42P01", StoreUnavailable),  # a table
        ("42501", StoreUnavailable),  # rights
        ("3F000", StoreUnavailable),
        ("40P01", StoreUnavailable),  # a deadlock
        ("57014", StoreUnavailable),  # the statement timeout
        ("25006", StoreUnavailable),  # a standby
        ("25P04", StoreUnavailable),  # the transaction timeout
        ("55P03", StoreLocked),
        ("28P01", StoreRefused),  # a password
        ("28000", StoreRefused),  # a role that may not connect
        ("3D000", StoreRefused),  # no such database
    ],
)
def test_what_fails_one_call_is_told_from_what_may_pass(sqlstate: str, kind: type[ChatclusterError]) -> None:
    assert type(translate(server_error(sqlstate))) is kind


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('invalid byte sequence for encoding "UTF8": 0x00', InvalidRequest),
        ('invalid byte sequence for encoding "UTF8": 0xff', StoreFailed),
    ],
    ids=["what a client sent", "what is stored"],
)
def test_bytes_that_are_no_text_are_the_callers_only_if_they_came_from_there(
    message: str, kind: type[ChatclusterError]
) -> None:
    assert type(translate(server_error("22021", message))) is kind


def test_a_certificate_that_is_not_trusted_is_a_refusal() -> None:
    assert type(translate(ssl.SSLCertVerificationError("certificate has expired"))) is StoreRefused
    assert type(translate(ssl.SSLError("broken"))) is StoreUnavailable


@pytest.mark.parametrize("error", [KeyError("ours"), AssertionError(), ValueError()])
def test_a_bug_of_ours_stays_one(error: Exception) -> None:
    assert not isinstance(error, RAISED)
    with pytest.raises(type(error)), Translated():
        raise error


def test_who_asks_for_what_cannot_be_read_is_told_so() -> None:
    answered = answer(Unreadable("a status that this version does not know"))
    assert answered.status == 409
    assert b"chat_unreadable" in answered.body


@pytest.mark.parametrize(
    ("error", "status"), [(StoreFailed("a row"), 500), (StoreLocked("a row"), 503), (StoreRefused("a role"), 503)]
)
def test_a_request_may_be_repeated_unless_it_would_fail_again(error: StoreUnavailable, status: int) -> None:
    answered = answer(error)
    assert answered.status == status
    assert ("Retry-After" in answered.headers) is (status == 503)
