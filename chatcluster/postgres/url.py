"""The URL of a database, as libpq and managed databases write it, in the terms of asyncpg.

asyncpg takes each parameter that it does not know for a setting of the server's, which the server then refuses. So each
parameter is looked at here:

* what asyncpg understands is left in the URL; files that it names have to be readable;
* ``connect_timeout``, ``sslnegotiation``, ``sslrootcert=system``, ``options`` and ``search_path`` are understood here;
* what asks for no more than is done anyway, or for what is set for each connection, is passed over: keepalives, for
  example, are quicker than anybody asks for;
* all else is refused by name: a demand on security must not be passed over, and a misspelt one might be one.

Nothing that is said of an URL has a part of its password.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from chatcluster.errors import ConfigError

CONNECT_SECONDS = 5.0
CONNECT_SECONDS_MAX = 60.0

UNDERSTOOD_BY_DRIVER = {
    *("host", "port", "user", "password", "passfile", "dbname", "database", "service"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib"),
}
FILES = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl")
SERVER_SETTINGS = ("options", "search_path")
PASSED_OVER = {
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    *("application_name", "fallback_application_name", "client_encoding", "load_balance_hosts", "gssdelegation"),
    *("sslcompression", "sslsni", "min_protocol_version", "max_protocol_version"),
}
HARMLESS = {
    "gssencmode": {"disable", "prefer"},
    "channel_binding": {"disable", "prefer"},
    "sslcertmode": {"disable", "allow"},
    "sslnegotiation": {"postgres"},
    "replication": {"false", "off", "no", "0"},
    "requirepeer": {""},
}
"""Passed over with these values, and refused with others."""

MALFORMED = "the Postgres URL cannot be used: it is malformed (in a password / is %2F, # is %23, ? is %3F, @ is %40)"


@dataclass(frozen=True)
class PostgresUrl:
    """What to give to asyncpg."""

    dsn: str = field(repr=False)
    connect_seconds: float = CONNECT_SECONDS
    server_settings: dict[str, str] = field(default_factory=dict)
    tls: dict[str, object] = field(default_factory=dict)


def parse(url: str) -> PostgresUrl:
    """Raises ``ConfigError``, which names the parameter that is not understood."""
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigError(MALFORMED) from None
    if parts.fragment or parts.netloc.count("@") > 1:
        raise ConfigError(MALFORMED)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigError("the Postgres URL cannot be used: it has to begin with postgresql://")
    if "@" not in parts.netloc and "@" in parts.query + parts.path and set(parameters) - _known():
        raise ConfigError(MALFORMED)  # what looks like a parameter is a part of the password
    kept = {name: value for name, value in parameters.items() if _is_for_driver(name, value)}
    _check_files(kept)
    return PostgresUrl(
        url.partition("?")[0] + (f"?{urlencode(kept, safe='/:,')}" if kept else ""),
        _connect_seconds(parameters.get("connect_timeout", "")),
        {name: parameters[name] for name in SERVER_SETTINGS if name in parameters},
        _tls(parameters),
    )


def _known() -> set[str]:
    return {*UNDERSTOOD_BY_DRIVER, *SERVER_SETTINGS, *PASSED_OVER, *HARMLESS, "connect_timeout"}


def _is_for_driver(name: str, value: str) -> bool:
    """False for a parameter that is none of asyncpg's and no reason to refuse the URL."""
    if name in UNDERSTOOD_BY_DRIVER:
        return (name, value) != ("sslrootcert", "system")
    if value in HARMLESS.get(name, ()) or (name, value) == ("sslnegotiation", "direct"):
        return False
    if name in HARMLESS:
        raise ConfigError(f"the Postgres URL asks for {name}={value[:40]}, which chatcluster cannot do; leave it away")
    if name not in _known():
        raise ConfigError(
            f"the Postgres URL has the parameter {name[:40]}, which chatcluster does not know"
            " (a setting of the server goes into options=-c%20name%3Dvalue)"
        )
    return False


def _check_files(parameters: dict[str, str]) -> None:
    for name in FILES:
        path = parameters.get(name)
        if path and not os.access(path, os.R_OK):
            raise ConfigError(f"the file that the Postgres URL names as {name} cannot be read: {path}")


def _connect_seconds(text: str) -> float:
    """As in libpq: 0, and nothing, is the default, which there is no limit and here is one."""
    if not text:
        return CONNECT_SECONDS
    if not text.isdecimal():
        raise ConfigError("connect_timeout in the Postgres URL must be a number of seconds")
    return min(float(text), CONNECT_SECONDS_MAX) or CONNECT_SECONDS


def _tls(parameters: dict[str, str]) -> dict[str, object]:
    arguments: dict[str, object] = {}
    if parameters.get("sslnegotiation") == "direct":
        arguments["direct_tls"] = True
    if parameters.get("sslrootcert") == "system":
        arguments["ssl"] = ssl.create_default_context()
    return arguments
