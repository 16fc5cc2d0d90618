"""What asyncpg, its sockets and TLS raise, in our terms. Nothing else may leave this package.

The class of the SQLSTATE, its first two characters, decides, so errors that asyncpg has no name for are translated too:

* ``StoreUnavailable``: the server is gone, going, coming, full or busy, or not set up as it has to be (rights, the
  schema). The same call may succeed later, and until then others fail alike.
* ``StoreRefused``: it lets this role, password or certificate not in, or has no such database.
* ``StoreFailed``: the server works, and this one call fails as often as it is made: a value out of range, a broken
  rule, a row that is damaged or too large, bytes that are no text. All classes that are not known here are of this
  kind, so that what is new fails one call and no loop. Memory that runs short is of the first kind: it is the server's,
  and the sizes of our own values are bounded.
* ``InvalidRequest``: a character that the database cannot store. ``ConfigError``: the URL.
"""

from __future__ import annotations

import re
import ssl

import asyncpg

from chatcluster.errors import (
    ChatclusterError,
    ConfigError,
    InvalidRequest,
    StoreFailed,
    StoreLocked,
    StoreRefused,
    StoreUnavailable,
)

LOST = (
    OSError,  # with the time-outs of asyncio, and the errors of TLS
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
    asyncpg.InternalClientError,  # used between the server's last words and the end of the connection
)
"""The connection is gone, about to be, or leads to the wrong server."""

UNREADABLE = (UnicodeError, OverflowError)
"""Errors of asyncpg's decoders: for bytes that are no text, or times beyond Python's."""

RAISED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, *UNREADABLE)

UNAVAILABLE_CLASSES = frozenset({"08", "25", "26", "2D", "3D", "3F", "28", "40", "42", "53", "55", "57"})
REFUSED_CLASSES = frozenset({"28", "3D"})
NOT_OURS_CLASSES = frozenset({"42", "3F"})
"""Rights, tables and columns: the schema is not the one that our statements are for."""
NUL = re.compile(r"0x00\s*$")


class ReportingClosed:
    """asyncpg has one error for a closed connection and for wrong use of it; tell them apart.

    A class, as is the next: each transaction goes through both, and a generator takes three times as long.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, asyncpg.InterfaceError) and self._connection.is_closed():
            raise ConnectionResetError("the connection was closed") from error


class Translated:
    """What asyncpg raises within comes out as an error of ours."""

    __slots__ = ()

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, RAISED):
            raise translate(error) from error


def translate(error: BaseException) -> ChatclusterError:
    """The error of ours that says the same; see above."""
    text = f"Postgres: {str(error) or type(error).__name__}"
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error, text)
    match error:
        case asyncpg.ClientConfigurationError():
            return ConfigError(f"the Postgres URL cannot be used: {error}")
        case ssl.SSLCertVerificationError():
            return StoreRefused(text)
        case OSError() | asyncpg.InternalClientError():
            return StoreUnavailable(text)
    return StoreFailed(text)


def _of_server(error: asyncpg.PostgresError, text: str) -> ChatclusterError:
    code = error.sqlstate or ""
    if code == "22P05" or (code == "22021" and NUL.search(str(error))):  # other bytes are in what is read
        return InvalidRequest("the text has a character that cannot be stored, such as NUL")
    if code[:2] in REFUSED_CLASSES:
        return StoreRefused(text)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return StoreLocked("a lock that another session holds")
    if code[:2] in NOT_OURS_CLASSES:
        return StoreUnavailable(f"{text}; give chatcluster a database of its own, that its user owns, and migrate it")
    if code[:2] in UNAVAILABLE_CLASSES or isinstance(error, (*LOST, asyncpg.InvalidCachedStatementError)):
        return StoreUnavailable(text)
    return StoreFailed(text)
