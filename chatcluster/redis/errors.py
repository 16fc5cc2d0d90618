"""What Redis refuses, in our words: the one place where its error replies are translated.

An error that Redis replies is a value first, an ``ErrorReply``, because the other commands of its batch took effect.
``refusal`` makes the exception of it, by the code that it begins with, and says what an operator can do:

* ``StreamsMisconfigured``: Redis is there, and will refuse the same until somebody changes something: permissions, the
  password, the kind of server. Repeating it soon is of no use.
* ``StreamsUnavailable``: not now; the server is loading, full, or has become a replica.
* ``StreamRefused``, which is everything else: it concerns the key that the command named, and no other.

Whatever the code is, also one that is not known yet, it is one of these three.
"""

from __future__ import annotations

from chatcluster.errors import StreamRefused, StreamsMisconfigured, StreamsUnavailable

TEXT_CHARACTERS_MAX = 300

COMMANDS = "+ping +select +multi +exec +xadd +xrange +xrevrange +expire +unlink +publish +subscribe +unsubscribe +info"
"""All that chatcluster needs, with ``SET_NAME``. Without ``+info`` it cannot tell of a policy that loses parts; the
rest works."""
SET_NAME = "+client|setname"
"""Redis 6.2 refuses the whole line for a user who may use all of ``client``."""
KEYS, CHANNELS = "~chatcluster:*", "&chatcluster:*"

_ADVICE = {
    "NOAUTH": "give the password in the Redis URL",
    "WRONGPASS": "the user or the password in the Redis URL is wrong",
    "MOVED": "this is a node of a Redis Cluster; name a server that is none",
    "ASK": "this is a node of a Redis Cluster; name a server that is none",
    "CROSSSLOT": "this is a node of a Redis Cluster; name a server that is none",
    "CLUSTERDOWN": "this is a node of a Redis Cluster; name a server that is none",
    "DENIED": "protected mode: give Redis a password, or let it listen on the address of this machine only",
    "OOM": "Redis has reached its maxmemory; parts pause until it has room again",
    "MISCONF": "Redis cannot save its data, and takes no writes until it can",
    "NOREPLICAS": "Redis wants more replicas than it has, and takes no writes until then",
    "READONLY": "this server has become a replica; the next connection leads to the primary if the URL's name does",
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "this server is a replica that has lost its primary",
    "BUSY": "a script keeps Redis busy",
    "UNKILLABLE": "a script keeps Redis busy",
    "TRYAGAIN": "Redis is moving keys",
}
_MISCONFIGURED = frozenset({"NOPERM", "NOAUTH", "WRONGPASS", "MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "DENIED"})
_ENDS_CONNECTION = frozenset({"NOAUTH", "WRONGPASS", "DENIED", "READONLY", "LOADING", "MASTERDOWN"})
_MISCONFIGURED_TEXTS = ("DB index is out of range", "unknown command", "invalid password", "without any password")
_TOO_MANY_CLIENTS = "max number of clients"


class ErrorReply(Exception):
    """What the server answers in the place of a reply. ``code`` is its first word."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]

    @property
    def ends_connection(self) -> bool:
        """Whether it concerns the connection, or its server as a whole, rather than the command."""
        return self.code in _ENDS_CONNECTION or _TOO_MANY_CLIENTS in str(self)


class ProtocolBroken(Exception):
    """What came is no reply of Redis at all."""


def refusal(reply: ErrorReply, *, user: str = "") -> StreamsUnavailable:
    """The exception for an error that was replied."""
    code, text = reply.code, str(reply)[:TEXT_CHARACTERS_MAX]
    if code == "NOPERM":
        return StreamsMisconfigured(f"Redis: {text}; grant it: ACL SETUSER {user or 'default'} {_missing(text)}")
    if code in _MISCONFIGURED or any(known in text for known in _MISCONFIGURED_TEXTS):
        return StreamsMisconfigured(_advised(code, text))
    if code in _ADVICE or reply.ends_connection:
        return StreamsUnavailable(_advised(code, text))
    return StreamRefused(f"Redis: {text}")


def _missing(text: str) -> str:
    """The rule for what a user is refused, and no more: Redis takes no pattern for a user that may use all keys, or all
    channels, as every user of Redis 6.2 may at first; to take that away is not ours to advise."""
    if " channel" in text:
        return CHANNELS
    if " key" in text:
        return KEYS
    return f"{COMMANDS} {SET_NAME}" if "'client" in text else COMMANDS


def _advised(code: str, text: str) -> str:
    return f"Redis: {text} ({_ADVICE[code]})" if code in _ADVICE else f"Redis: {text}"
