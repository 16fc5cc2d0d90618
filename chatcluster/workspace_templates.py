"""Templates: what a workspace is made of. Pure.

A **template** has a name, and settings that an administrator writes, as rows by the API or in a ``template.toml``:

    name = "python"
    description = "Python with pytest, no network"
    base = "host"                       # the machine's own /usr, read-only; or a directory with a root of its own
    startup = "pip list"                # runs in the workspace after each start
    network = ["pypi.org", "*.pythonhosted.org"]   # all that it reaches, by a proxy of its host

    [limits]
    memory_bytes_max = 1073741824

    [[parameters]]
    name = "branch"
    type = "string"
    default = "main"
    choices = ["main", "next"]
    description = "What is checked out"

A workspace keeps the settings that its template had when it was created; a later change is for later workspaces.
Values of parameters are in the environment of the start-up script and of every command, as ``WORKSPACE_NAME``.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from chatcluster.errors import InvalidRequest
from chatcluster.texts import checked_line

TEMPLATES_MAX = 100
"""The most templates of a deployment."""
PARAMETERS_MAX = 32
CHOICES_MAX = 64
PACKAGES_MAX = 100
NETWORK_MAX = 100
USERS_MAX = 1000
USER_CHARS_MAX = 200
STARTUP_BYTES_MAX = 64 << 10
VALUE_CHARS_MAX = 1000
NAME_CHARS_MAX = 63

Value = str | bool | int | float
"""The value of a parameter."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.:-]{0,99}")
_PEER = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[1-9][0-9]{0,4})?")

Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]


class ParameterType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


_KINDS: dict[ParameterType, tuple[type, ...]] = {
    ParameterType.STRING: (str,),
    ParameterType.INTEGER: (int,),
    ParameterType.NUMBER: (int, float),
    ParameterType.BOOLEAN: (bool,),
}


class TemplateParameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Something that is chosen for each workspace. Without a ``default`` it has to be given."""

    name: str
    type: ParameterType = ParameterType.STRING
    default: Value | None = None
    choices: Annotated[tuple[Value, ...], Meta(max_length=CHOICES_MAX)] = ()
    description: Annotated[str, Meta(max_length=300)] = ""


class TemplateLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one workspace may use."""

    memory_bytes_max: Annotated[int, Meta(ge=32 << 20, le=1 << 42)] = 1 << 30
    processes_max: Annotated[int, Meta(ge=8, le=100_000)] = 256
    disk_bytes_max: Annotated[int, Meta(ge=1 << 20, le=1 << 46)] = 2 << 30


class TemplateSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """All that an administrator says of a template."""

    display_name: Annotated[str, Meta(max_length=100)] = ""
    description: Annotated[str, Meta(max_length=2000)] = ""
    deprecated: bool = False
    """Whether it is not offered any more; workspaces that were made of it stay as they are."""
    base: Annotated[str, Meta(max_length=500)] = "host"
    """``host``: the machine's own programs, read-only. Else what the host's provider knows: a root or an image."""
    packages: Annotated[tuple[str, ...], Meta(max_length=PACKAGES_MAX)] = ()
    """What the machine has to have installed; a host that lacks one says so when it builds."""
    startup: str = ""
    """A script for ``sh`` that runs in the workspace after each start."""
    parameters: Annotated[tuple[TemplateParameter, ...], Meta(max_length=PARAMETERS_MAX)] = ()
    limits: TemplateLimits = TemplateLimits()
    network: Annotated[tuple[str, ...], Meta(max_length=NETWORK_MAX)] = ()
    """``host`` or ``host:port``, ``*.domain`` for what is below one: what it reaches, at port 443 and 80 where none is
    said. Empty: nothing."""
    users: Annotated[tuple[str, ...], Meta(max_length=USERS_MAX)] = ()
    """Names of the users that it is for: for all others there is no such template. Empty: it is for everybody."""
    mcp_approval: Literal["never", "ask", "deny"] = "never"
    """Whether a person is asked before a tool of the workspace's own ``.mcp.json`` runs; ``deny``: it is not read."""
    desktop: bool = False
    """Whether its workspaces have a screen."""
    activity_bump_seconds: Seconds = 3600.0
    """Work in a workspace keeps it running for so long."""
    idle_stop_seconds: Seconds = 3600.0
    """A workspace is stopped so long after its start if nobody works in it; 0: never."""

    def is_for(self, user: str | None) -> bool:
        """Whether a workspace may be made of it for the user of this name."""
        return not self.deprecated and (not self.users or user in self.users)

    @property
    def environment_names(self) -> dict[str, str]:
        """The variable of each parameter."""
        return {parameter.name: f"WORKSPACE_{parameter.name.upper()}" for parameter in self.parameters}


DEFAULT_NAME = "default"
DEFAULT_SETTINGS = TemplateSettings(
    display_name="This machine",
    description="The programs of the machine that runs it, read-only, and a home of its own. No network.",
)
"""What a host makes with `--default-template`, and `chatcluster up --workspaces` so."""


def checked_name(name: str) -> str:
    """The name of a template. Raises ``InvalidRequest``."""
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"the name of a template is made of a-z, 0-9 and hyphens between them, at most {NAME_CHARS_MAX} of them"
        )
    return name


def checked_settings(settings: TemplateSettings) -> TemplateSettings:
    """What cannot be said by types. Raises ``InvalidRequest``, which names the field."""
    if settings.display_name:
        checked_line("display_name", settings.display_name, chars_max=100)
    checked_line("base", settings.base, chars_max=500)
    if len(settings.startup.encode(errors="replace")) > STARTUP_BYTES_MAX or "\0" in settings.startup:
        raise InvalidRequest(f"startup has more than {STARTUP_BYTES_MAX} bytes, or a NUL among them")
    if any("\0" in text for text in (settings.description, *(one.description for one in settings.parameters))):
        raise InvalidRequest("a description has a NUL in it")
    for user in settings.users:
        checked_line("users", user, chars_max=USER_CHARS_MAX)
    for field, words, pattern in (("packages", settings.packages, _PACKAGE), ("network", settings.network, _PEER)):
        for word in words:
            if not pattern.fullmatch(word):
                raise InvalidRequest(f"{field} has an entry that is none: {word[:80]!r}")
    _check_parameters(settings)
    return settings


def _check_parameters(settings: TemplateSettings) -> None:
    names = [parameter.name for parameter in settings.parameters]
    if len(set(names)) < len(names):
        raise InvalidRequest("two parameters have the same name")
    for parameter in settings.parameters:
        if not _PARAMETER.fullmatch(parameter.name):
            raise InvalidRequest(
                f"the name of a parameter is made of a-z, 0-9 and _, a letter first: {parameter.name[:80]!r}"
            )
        for choice in parameter.choices:
            _checked_value(parameter, choice, of_choices=False)
        if parameter.default is not None:
            _checked_value(parameter, parameter.default)


def chosen_values(settings: TemplateSettings, given: Mapping[str, Any]) -> dict[str, Value]:
    """The values of all parameters: what is ``given``, and defaults. Raises ``InvalidRequest``."""
    known = {parameter.name: parameter for parameter in settings.parameters}
    for name in given:
        if name not in known:
            raise InvalidRequest(f"the template has no parameter {name[:80]!r}", parameter=name[:80])
    values: dict[str, Value] = {}
    for name, parameter in known.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise InvalidRequest(f"the template wants a value for {name}", parameter=name)
        values[name] = _checked_value(parameter, value)
    return values


def _checked_value(parameter: TemplateParameter, value: Any, *, of_choices: bool = True) -> Value:
    kinds = _KINDS[parameter.type]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidRequest(f"{parameter.name} is not of the type {parameter.type}", parameter=parameter.name)
    if isinstance(value, str) and (len(value) > VALUE_CHARS_MAX or "\0" in value or not _is_text(value)):
        raise InvalidRequest(
            f"{parameter.name} is longer than {VALUE_CHARS_MAX} characters, or no text", parameter=parameter.name
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{parameter.name} is no number", parameter=parameter.name)
    if of_choices and parameter.choices and value not in parameter.choices:
        raise InvalidRequest(f"{parameter.name} is none of its choices", parameter=parameter.name)
    assert isinstance(value, str | bool | int | float)
    return value


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def parse_template(text: str) -> tuple[str, TemplateSettings]:
    """The name and the settings of a ``template.toml``. Raises ``InvalidRequest``, which says where it is wrong."""
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # also of numbers that are too long
        raise InvalidRequest(f"this is no TOML: {error}") from None
    except RecursionError:
        raise InvalidRequest("this is no template: it is nested too deeply") from None
    name = content.pop("name", None)
    if not isinstance(name, str):
        raise InvalidRequest('a template.toml begins with its name, such as name = "python"')
    try:
        settings = msgspec.convert(content, TemplateSettings)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"template {name[:80]!r}: {error}") from None
    return checked_name(name), checked_settings(settings)
