"""What commands have in common: how a group lists them, and their flags.

The flags of settings are made from the settings' own table, so that there is one place to say what a setting is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from chatcluster.config import ENV_PREFIX, SETTINGS, env_name
from chatcluster.local.local_cluster import DEFAULT_DATA_DIR
from chatcluster.setting_checks import flag_name
from chatcluster.setting_fields import Setting

F = TypeVar("F", bound=Callable[..., Any])

ALL = tuple(SETTINGS)
DATABASE = ("database_url", "statement_timeout_seconds")


class Number(click.FloatRange):
    """NaN is in no range, and compares with none of its ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a number", param, ctx) if math.isnan(number) else number


class Commands(click.Group):
    """A group whose commands stand in the order in which people need them, rather than by the alphabet."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)


def data_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA_DIR,
        envvar=ENV_PREFIX + "DATA_DIR",
        show_default=True,
        show_envvar=True,
        help="Where `up` keeps its data, token and logs",
    )(function)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How to reach a cluster; without them the one that `up` runs on this machine is meant."""
    for flag, text in (
        ("--token", "API token.  [default: on this machine that of the local cluster]"),
        ("--url", "URL of a cluster.  [default: the local one]"),
    ):
        function = click.option(flag, envvar=ENV_PREFIX + flag[2:].upper(), show_envvar=True, help=text)(function)
    return data_dir_option(function)


def settings_flags(*names: str, of: Iterable[Setting] = SETTINGS.values()) -> Callable[[F], F]:
    """Add the flags of these settings to a command, which gets them as keyword arguments; None where not given.

    Values outside a setting's range are found by ``config.from_environment``, with the environment's.
    """
    chosen = [item for item in of if item.name in names]

    def decorate(function: F) -> F:
        for item in reversed(chosen):
            function = _option(item)(function)
        return function

    return decorate


def _option(item: Setting) -> Callable[[F], F]:
    flag = f"--{flag_name(item.name)}"
    if isinstance(item.default, bool):
        return click.option(f"{flag}/--no-{flag_name(item.name)}", item.name, default=None, help=_help(item))
    return click.option(flag, item.name, type=type(item.default), default=None, help=_help(item))


def _help(item: Setting) -> str:
    """The setting's text, its default and its variable."""
    text = item.help
    if item.secret:
        text += ". Prefer the environment: others on this machine can see flags"
    default = "" if item.default == "" else f"default: {_shown(item.default)}; "
    variables = ", ".join((env_name(item.name), *item.fallbacks))
    return f"{text}  [{default}env: {variables}]"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def ready_fd_option(function: Callable[..., Any]) -> Callable[..., Any]:
    text = "Write a line of JSON to this inherited pipe when ready"
    return click.option("--ready-fd", type=int, callback=_open_descriptor, help=text)(function)


def _open_descriptor(_context: click.Context, _parameter: click.Parameter, descriptor: int | None) -> int | None:
    if descriptor is not None:
        try:
            os.fstat(descriptor)
        except (OSError, OverflowError):
            raise click.BadParameter(f"{descriptor} is no open file.") from None
    return descriptor
