"""All settings of a replica, as one frozen value: read once, validated once, passed by argument.

Each is a flag ``--its-name`` and an environment variable ``CHATCLUSTER_ITS_NAME``; a secret can also come from a file
named by ``CHATCLUSTER_ITS_NAME_FILE``. The flag wins over the environment. What there is stands in
``setting_sections.py``, by subject; the command line's ``--help`` and docs/settings.md come from there as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from chatcluster.errors import ConfigError
from chatcluster.setting_fields import Section, Setting, settings_of
from chatcluster.setting_sections import (
    Browsers,
    Http,
    Llm,
    Ownership,
    Push,
    Replica,
    Servers,
    Sizes,
    Storage,
    Streaming,
    Telemetry,
    Tools,
    Turns,
)

Kind = TypeVar("Kind", bound=Section)

ENV_PREFIX = "CHATCLUSTER_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """By subject: ``settings.llm.api_key``. Where a setting is named by itself, it is by the name of its flag:
    ``Settings.of(llm_api_key="any")``."""

    servers: Servers = field(default_factory=Servers)
    replica: Replica = field(default_factory=Replica)
    ownership: Ownership = field(default_factory=Ownership)
    llm: Llm = field(default_factory=Llm)
    turns: Turns = field(default_factory=Turns)
    tools: Tools = field(default_factory=Tools)
    streaming: Streaming = field(default_factory=Streaming)
    storage: Storage = field(default_factory=Storage)
    browsers: Browsers = field(default_factory=Browsers)
    push: Push = field(default_factory=Push)
    http: Http = field(default_factory=Http)
    sizes: Sizes = field(default_factory=Sizes)
    telemetry: Telemetry = field(default_factory=Telemetry)

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """These settings, and all others as by default."""
        return cls().but(**values)

    def but(self, **values: Any) -> Settings:
        """The same settings but for these. Raises ``ConfigError`` for values that must not be, also together."""
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in SETTINGS:
                raise TypeError(f"there is no setting {name!r}")
            if not SETTINGS[name].takes(value):
                raise TypeError(f"the setting {name!r} has no value of type {type(value).__name__}")
            changed.setdefault(_SECTIONS[name], {})[SETTINGS[name].field] = value
        return replace(self, **{name: replace(getattr(self, name), **its) for name, its in changed.items()})

    def value(self, name: str) -> Any:
        """That of the setting whose flag has this name."""
        return getattr(getattr(self, _SECTIONS[name]), SETTINGS[name].field)

    def browsers_url(self, port: int) -> str:
        """Where browsers reach this cluster, without a slash at the end."""
        return self.browsers.public_url.strip().rstrip("/") or f"http://{self.replica.advertised_address(port)}"


_BY_SECTION = {section.name: settings_of(type(getattr(Settings(), section.name))) for section in fields(Settings)}
_SECTIONS = {one.name: section for section, settings in _BY_SECTION.items() for one in settings}
SETTINGS: Mapping[str, Setting] = {one.name: one for settings in _BY_SECTION.values() for one in settings}
"""All settings of a replica by the names of their flags, in the order of the documents."""


def require_servers(settings: Settings) -> None:
    """Raises ``ConfigError`` without the URLs of Postgres and Redis."""
    servers = settings.servers
    for url, flag in ((servers.database_url, "database-url"), (servers.redis_url, "redis-url")):
        if not url:
            variable = "CHATCLUSTER_" + flag.upper().replace("-", "_")
            raise ConfigError(f"--{flag} (or {variable}) is needed; `chatcluster up` brings servers of its own")


def require_key(settings: Settings) -> None:
    """Without a key every chat that a replica claims would end in an error. Raises ``ConfigError``."""
    if settings.llm.base_url.strip() and not settings.llm.api_key.strip():
        raise ConfigError(
            "--llm-api-key (or CHATCLUSTER_LLM_API_KEY) is needed; any word will do for a server that wants none"
        )


def env_name(name: str) -> str:
    return ENV_PREFIX + name.upper()


def from_environment(environ: Mapping[str, str] = os.environ, /, **flags: Any) -> Settings:
    """Settings from flags (those that are not None) and the environment; raises ``ConfigError``."""
    return Settings.of(**_values(SETTINGS.values(), environ, flags))


def read_section(section: type[Kind], environ: Mapping[str, str], flags: Mapping[str, Any]) -> Kind:
    """The settings of another program, read in the same way."""
    settings = settings_of(section)
    values = _values(settings, environ, flags)
    return section(**{one.field: values[one.name] for one in settings if one.name in values})


def _values(settings: Iterable[Setting], environ: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of these settings, by their names."""
    values: dict[str, Any] = {}
    for one in settings:
        if flags.get(one.name) is not None:
            values[one.name] = flags[one.name]
            continue
        text = _lookup(environ, one)
        if text is not None:
            values[one.name] = _convert(one.name, text, type(one.default))
    return values


def _lookup(environ: Mapping[str, str], wanted: Setting) -> str | None:
    for variable in (env_name(wanted.name), *wanted.fallbacks):
        if environ.get(variable):
            return environ[variable]
        path = environ.get(variable + "_FILE") if wanted.secret else None
        if path:
            try:
                return Path(path).read_text().strip()
            except OSError as error:
                raise ConfigError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ConfigError(f"{variable}_FILE: {path} is not text in UTF-8") from None
    return None


_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _convert(name: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            if text.lower() not in _TRUE + _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        return kind(text)
    except ValueError:
        word = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise ConfigError(f"{env_name(name)} must be {word}, not {text[:40]!r}") from None
