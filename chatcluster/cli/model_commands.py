"""The commands for providers of models, and for models. They speak to a cluster, as any administrator's client does.

A key is never a flag, because others on the machine can see flags: it is asked for, or read from a file, from standard
input or from an environment variable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click
import msgspec

from chatcluster.cli.connected import ask
from chatcluster.cli.flags import Commands, server_options
from chatcluster.client.client import Client
from chatcluster.config import ENV_PREFIX
from chatcluster.setting_sections import LLM_KINDS

KEY_VARIABLE = ENV_PREFIX + "PROVIDER_KEY"
PRICES = ("input", "cached_input", "cache_write", "output", "search")
MICROS = 1_000_000
_TOKENS = ("million tokens", "token", 100)
_SEARCHES = ("thousand searches", "search", 100_000)
"""What a price is for, and the least in micros: somebody who says less means the price of one."""
NOTHING: dict[str, Any] = {"fallbacks": [], "options": {}, "prices": {}, "context-tokens": None}
"""What ``model set`` can take away, and what is there then."""


@click.group(cls=Commands)
def provider() -> None:
    """Servers of models: their addresses and keys."""


@click.group(cls=Commands)
def model() -> None:
    """Models, and what stands behind their names."""


# --- providers --------------------------------------------------------------------------------


def key_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--no-key", is_flag=True, help="The server takes no key; one that is stored is removed")(
        function
    )
    text = f"Read the key from this file, - for standard input.  [default: {KEY_VARIABLE}, or it is asked for]"
    return click.option("--key-file", type=click.File(), help=text)(function)


@provider.command("add")
@click.argument("name")
@click.option("--base-url", required=True, help="Address of its API, like https://api.example.com/v1")
@click.option(
    "--kind",
    type=click.Choice(LLM_KINDS),
    default="openai",
    show_default=True,
    help="What it speaks: Chat Completions (most servers), Messages, Responses",
)
@click.option("--no-usage", is_flag=True, help="Do not ask for usage, which a few older servers refuse")
@key_options
@server_options
def provider_add(*, name: str, base_url: str, kind: str, no_usage: bool, **rest: Any) -> None:
    """Add a provider. Its key is encrypted before it is stored, and never shown again.

    \b
    chatcluster provider add openai --kind openai-responses --base-url https://api.openai.com/v1
    chatcluster provider add local --base-url http://127.0.0.1:11434/v1 --no-key
    """
    key = _key(rest.pop("key_file"), no_key=rest.pop("no_key"), ask=True)
    fields = {"base_url": base_url, "kind": kind, "options": {"include_usage": not no_usage}}
    _run(rest, lambda admin: admin.add_provider(name, key=key, **fields))
    click.echo(f"added {name}")


@provider.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def provider_list(*, as_json: bool, **rest: Any) -> None:
    """List the providers, without their keys."""
    from chatcluster.cli.listings import show_providers

    show_providers(_run(rest, lambda admin: admin.providers()), as_json=as_json)


@provider.command("set")
@click.argument("name")
@click.option("--base-url", help="Another address")
@click.option("--enable/--disable", "enabled", default=None, help="Whether its models may be asked")
@click.option("--usage/--no-usage", "include_usage", default=None, help="Whether to ask for usage")
@click.option("--new-key", is_flag=True, help="Ask for another key")
@key_options
@server_options
def provider_set(*, name: str, base_url: str | None, enabled: bool | None, new_key: bool, **rest: Any) -> None:
    """Change a provider. Replicas work with it at once."""
    key_file, no_key, include_usage = rest.pop("key_file"), rest.pop("no_key"), rest.pop("include_usage")
    options = None if include_usage is None else {"include_usage": include_usage}
    given = {"base_url": base_url, "enabled": enabled, "options": options}
    fields: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if no_key and new_key:
        raise click.UsageError("give --new-key or --no-key, not both")
    if no_key or key_file is not None or new_key:
        fields["key"] = _key(key_file, no_key=no_key, ask=True)
    _require_change(fields)
    _run(rest, lambda admin: admin.change_provider(name, **fields))
    click.echo(f"changed {name}")


@provider.command("remove")
@click.argument("name")
@server_options
def provider_remove(*, name: str, **rest: Any) -> None:
    """Remove a provider. One that still has models is refused."""
    _run(rest, lambda admin: admin.remove_provider(name))
    click.echo(f"removed {name}")


# --- models -----------------------------------------------------------------------------------


MODEL_OPTIONS = (
    click.option("--context-tokens", type=click.IntRange(1), help="Longest conversation that it takes"),
    click.option("--output-tokens-max", type=click.IntRange(1), help="Longest answer to ask for"),
    click.option("--compaction-percent", type=click.IntRange(10, 95), help="Summarise chats that fill more of it"),
    click.option("--fallback", "fallbacks", multiple=True, help="A model that takes over when this one fails"),
    click.option("--failover-after", type=click.IntRange(1, 100), help="Ask the fall-back after so many failures"),
    click.option(
        "--continuation",
        type=click.Choice(["none", "prefix", "background"]),
        help="What becomes of an answer whose replica dies",
    ),
    click.option(
        "--option", "options", multiple=True, metavar="NAME=JSON", help="Such as temperature=0.2; may be repeated"
    ),
    click.option(
        "--price",
        "prices",
        multiple=True,
        metavar="KIND=NUMBER",
        help=f"Per million tokens of {', '.join(PRICES[:-1])}, or thousand searches; may be repeated",
    ),
)


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(MODEL_OPTIONS):
        function = option(function)
    return function


@model.command("add")
@click.argument("name")
@click.option("--provider", "provider_name", required=True, help="Name of its provider")
@click.option("--as", "provider_model", help="What the provider calls it.  [default: NAME]")
@click.option("--default", "is_default", is_flag=True, help="Chats that name no model get it")
@model_options
@server_options
def model_add(*, name: str, provider_name: str, provider_model: str | None, is_default: bool, **rest: Any) -> None:
    """Add a model. The first one is the default.

    \b
    chatcluster model add gpt --provider openai --as gpt-6.1-sol --default
    chatcluster model add small --provider local --as qwen3:4b --context-tokens 32768
    """
    fields = _model_fields(rest)
    place = {"provider": provider_name, "provider_model": provider_model or name, "is_default": is_default}

    async def add(admin: Any) -> tuple[bool, list[str]]:
        added = await admin.add_model(name, **place, **fields)
        return added["is_default"], await _missing(admin, added["fallbacks"])

    is_first, missing = _run(rest, add)
    click.echo(f"added {name}" + (", the default" if is_first else ""))
    _tell_missing(missing)


@model.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def model_list(*, as_json: bool, **rest: Any) -> None:
    """List all models.

    Those that are disabled, or whose provider is, as well.
    """
    from chatcluster.cli.listings import show_models

    show_models(_run(rest, lambda admin: admin.models()), as_json=as_json)


@model.command("set")
@click.argument("name")
@click.option("--provider", "provider_name", help="Another provider")
@click.option("--as", "provider_model", help="What the provider calls it")
@click.option("--default", "is_default", is_flag=True, help="Chats that name no model get it")
@click.option("--enable/--disable", "enabled", default=None, help="Whether it may be asked")
@click.option(
    "--without", "cleared", type=click.Choice(list(NOTHING)), multiple=True, help="Take these away, all of them"
)
@model_options
@server_options
def model_set(*, name: str, is_default: bool, **rest: Any) -> None:
    """Change a model. Replicas work with it at once; what is not given stays.

    One --option takes the place of all options that it has, one --price that of all prices, one --fallback that of all
    fall-backs. --without fallbacks takes all of those away.
    """
    given = {
        "provider": rest.pop("provider_name"),
        "provider_model": rest.pop("provider_model"),
        "enabled": rest.pop("enabled"),
        "is_default": True if is_default else None,
    }
    cleared = {field.replace("-", "_"): NOTHING[field] for field in rest.pop("cleared")}
    fields = cleared | {field: value for field, value in given.items() if value is not None} | _model_fields(rest)
    _require_change(fields)

    async def change(admin: Any) -> list[str]:
        return await _missing(admin, (await admin.change_model(name, **fields))["fallbacks"])

    missing = _run(rest, change)
    click.echo(f"changed {name}")
    _tell_missing(missing)


@model.command("remove")
@click.argument("name")
@server_options
def model_remove(*, name: str, **rest: Any) -> None:
    """Remove a model. Chats that name it are answered by the default."""
    _run(rest, lambda admin: admin.remove_model(name))
    click.echo(f"removed {name}")


# --- what the commands stand on ---------------------------------------------------------------


def _run(server: dict[str, Any], act: Callable[[Any], Awaitable[Any]]) -> Any:
    """Do something as an administrator of the cluster that ``server`` (the options of that name) leads to."""
    return ask(server, Client, lambda client: act(client.admin))


async def _missing(admin: Any, fallbacks: list[str]) -> list[str]:
    """The names that are no models: a misspelt one is found out by nobody, until it is needed."""
    known = {model["name"] for model in await admin.models()} if fallbacks else set()
    return [fallback for fallback in fallbacks if fallback not in known]


def _tell_missing(fallbacks: list[str]) -> None:
    if fallbacks:
        click.echo(f"there is no model {', '.join(fallbacks)} yet: it is passed over as a fall-back", err=True)


def _key(file: Any, *, no_key: bool, ask: bool) -> str | None:
    if no_key and file is not None:
        raise click.UsageError("give --key-file or --no-key, not both")
    if no_key:
        return None
    if file is not None:
        try:
            text: str = file.read(1 << 20)
        except UnicodeDecodeError:
            raise click.UsageError("--key-file is not text") from None
        return text.strip()
    if key := os.environ.get(KEY_VARIABLE):
        return key.strip()
    if not ask or not sys.stdin.isatty():
        raise click.UsageError(f"give the key in {KEY_VARIABLE} or by --key-file, or say --no-key")
    asked: str = click.prompt("Key", hide_input=True)
    return asked.strip()


def _model_fields(rest: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model that were given; they are taken out of ``rest``."""
    plain = ("context_tokens", "output_tokens_max", "compaction_percent", "failover_after", "continuation")
    fields = {name: value for name in plain if (value := rest.pop(name)) is not None}
    fallbacks, options, prices = rest.pop("fallbacks"), rest.pop("options"), rest.pop("prices")
    if fallbacks:
        fields["fallbacks"] = list(fallbacks)
    if options:
        fields["options"] = _options(options)
    if prices:
        fields["prices"] = dict(_price(text) for text in prices)
    return fields


def _options(texts: tuple[str, ...]) -> dict[str, Any]:
    """Options that chatcluster knows by their names; all others go into each request as they are."""
    from chatcluster.models import ModelOptions

    known = ModelOptions.__struct_fields__
    pairs = dict(_option(text) for text in texts)
    extra = {name: value for name, value in pairs.items() if name not in known}
    options = {name: value for name, value in pairs.items() if name in known}
    match options.get("web_search"):
        case True:
            options["web_search"] = {}
        case False:
            del options["web_search"]
    if isinstance(options.get("input"), str):
        options["input"] = [word.strip() for word in options["input"].split(",")]
    if extra:
        given = options.get("extra_body", {})
        options["extra_body"] = extra | given if isinstance(given, dict) else given
    return options


def _option(text: str) -> tuple[str, Any]:
    name, is_pair, value = text.partition("=")
    if not (name and is_pair):
        raise click.UsageError(f"--option takes NAME=VALUE, not {text}")
    try:
        return name, msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return name, value  # a word stands for itself


def _price(text: str) -> tuple[str, int]:
    kind, _, number = text.partition("=")
    try:
        price = float(number)
        micros = round(price * MICROS)
    except (ValueError, OverflowError):
        price, micros = -1.0, -1
    unit, one, least = _SEARCHES if kind == "search" else _TOKENS
    if price > 0 and micros < least:
        raise click.UsageError(f"--price is per {unit}; {text} is next to nothing: is it that of one {one}?")
    if kind not in PRICES or micros < 0:
        raise click.UsageError(f"--price takes KIND=NUMBER with a kind of {', '.join(PRICES)}, not {text}")
    return kind, micros


def _require_change(fields: dict[str, Any]) -> None:
    if not fields:
        raise click.UsageError("say what to change; --help lists what there is")
