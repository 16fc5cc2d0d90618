"""Tables for people, and JSON for programs, of what the command line lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from chatcluster.ports import Token
from chatcluster.texts import tame


def show_tokens(tokens: Sequence[Token], *, as_json: bool) -> None:
    if as_json:
        _show_json(tokens)
        return
    rows = (
        (
            token.id,
            token.user_name,
            token.name,
            "all" if token.scopes is None else " ".join(token.scopes),
            *map(_moment, (token.created_at, token.last_used_at, token.expires_at)),
        )
        for token in tokens
    )
    _show_table(("id", "user", "name", "scopes", "created", "last used", "expires"), rows)


def show_replicas(replicas: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/replicas`` answered."""
    if as_json:
        _show_json(replicas)
        return
    rows = (
        (
            replica["name"],
            replica["address"],
            replica["state"],
            f"{replica['chats']}/{replica['slots']}",
            f"{replica['heartbeat_age_seconds']:.1f} s",
            replica["version"],
            replica["worker_id"],
        )
        for replica in replicas
    )
    _show_table(("name", "address", "state", "chats", "heartbeat", "version", "worker ID"), rows)


def show_mcp_servers(servers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/admin/mcp-servers`` answered."""
    if as_json:
        _show_json(servers)
        return
    rows = (
        (
            server["slug"],
            server["url"],
            server["transport"],
            server["auth"]["kind"],
            ", ".join(_secret(*secret) for secret in server["secrets"].items()) or "-",
            server["availability"] if server["enabled"] else "disabled",
            server["approval"],
            "yes" if server["trusted"] else "no",
        )
        for server in servers
    )
    _show_table(("slug", "URL", "transport", "auth", "secrets", "for chats", "approval", "trusted"), rows)


def show_usable_servers(servers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/mcp-servers`` answered, each with its ``login``."""
    if as_json:
        _show_json(servers)
        return
    rows = ((server["slug"], server["availability"], server["login"], server["description"]) for server in servers)
    _show_table(("slug", "for chats", "login", "description"), rows)


def show_permissions(permissions: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/me/tool-permissions`` answered."""
    if as_json:
        _show_json(permissions)
        return
    rows = ((one["id"], one["tool"], one["chat_id"] or "all", one["expires_at"][:10]) for one in permissions)
    _show_table(("id", "tool", "in chat", "until"), rows)


def _secret(name: str, secret: dict[str, Any]) -> str:
    return f"{name} …{secret['last4']} of {(secret['set_at'] or '')[:10]}"


def show_mcp_report(report: dict[str, Any], *, as_json: bool) -> None:
    """What a test of a server of tools found."""
    if as_json:
        _show_json(report)
        return
    rows = (
        (
            tool["called"] if tool["available"] else f"({tool['called']})",
            tool["effect"],
            tool["approval"],
            " ".join(tool["description"].split())[:80],
        )
        for tool in report.get("tools", ())
    )
    if report["ok"]:
        _show_table(("tool", "effect", "approval", "description"), rows)
        if report.get("left_out"):
            click.echo(f"{report['left_out']} more cannot be used: too large, or without a proper name or schema")


def show_providers(providers: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/admin/providers`` answered."""
    if as_json:
        _show_json(providers)
        return
    rows = (
        (row["name"], row["kind"], row["base_url"], _key(row), "yes" if row["enabled"] else "no") for row in providers
    )
    _show_table(("name", "kind", "base URL", "key", "enabled"), rows)


def _key(provider: dict[str, Any]) -> str:
    if not provider["has_key"]:
        return "-"
    return f"…{provider['key_hint'] or ''} of {provider['key_set_at'][:10]}"


def show_models(models: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/admin/models`` answered."""
    if as_json:
        _show_json(models)
        return
    rows = (
        (
            row["name"],
            row["provider"],
            row["provider_model"],
            "default" if row["is_default"] else "",
            "yes" if row["enabled"] else "no",
            str(row["context_tokens"] or "-"),
            ", ".join(row["fallbacks"]) or "-",
        )
        for row in models
    )
    _show_table(("name", "provider", "as", "", "enabled", "context", "fall-backs"), rows)


def show_chats(chats: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/chats`` answered."""
    if as_json:
        _show_json(chats)
        return
    rows = ((row["id"], row["status"], row["updated_at"][:16], row["model"] or "-", row["title"]) for row in chats)
    _show_table(("ID", "status", "changed", "model", "title"), rows)


def show_files(files: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/files`` answered."""
    if as_json:
        _show_json(files)
        return
    rows = (
        (file["id"], file["name"], file["media_type"], str(file["size_bytes"]), file["created_at"][:16])
        for file in files
    )
    _show_table(("ID", "name", "type", "bytes", "uploaded"), rows)


def show_usage(answer: dict[str, Any], *, as_json: bool) -> None:
    """What ``GET /api/v1/usage`` answered."""
    if as_json:
        _show_json(answer)
        return
    rows = [_bill(group.get("name") or group.get("key") or "(unknown)", group) for group in answer["groups"]]
    rows.append(_bill("total", answer["total"]))
    _show_table((answer["group_by"], "attempts", "input", "cached", "output", "searches", "cost", "unpriced"), rows)
    if answer["has_more"]:
        click.echo("There is more: ask for a shorter time.", err=True)


def show_limits(limits: Sequence[dict[str, Any]], members: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/admin/limits`` and ``/admin/groups`` answered."""
    if as_json:
        _show_json({"limits": limits, "members": members})
        return
    rows = (
        (
            f"{limit['subject']} {limit['name']}".strip(),
            limit["period"],
            money(limit["cost_micros"]),
            "-" if limit["tokens"] is None else str(limit["tokens"]),
        )
        for limit in limits
    )
    _show_table(("for", "each", "cost", "tokens"), rows)
    if members:
        _show_table(("group", "user"), ((member["group"], member["user"]) for member in members))


def _bill(name: str, bill: dict[str, Any]) -> tuple[str, ...]:
    kinds = ("attempts", "input_tokens", "cached_input_tokens", "output_tokens", "searches")
    counts = (bill.get(kind, 0) for kind in kinds)
    return (name, *map(str, counts), money(bill.get("cost_micros")), str(bill.get("unpriced", 0)))


def money(micros: int | None) -> str:
    """An amount in units of the currency, with as many places as there are."""
    if micros is None:
        return "-"
    places = f"{micros / 1_000_000:.6f}".rstrip("0")
    return places + "0" * max(0, 2 - len(places.partition(".")[2]))


def show_templates(templates: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/templates`` answered."""
    if as_json:
        _show_json(templates)
        return
    rows = (
        (
            one["name"],
            one["display_name"],
            ", ".join(parameter["name"] for parameter in one["parameters"]) or "-",
            "yes" if one["desktop"] else "-",
            one["description"].split("\n")[0],
        )
        for one in templates
    )
    _show_table(("name", "shown as", "parameters", "desktop", "description"), rows)


def show_workspaces(workspaces: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/workspaces`` answered."""
    if as_json:
        _show_json(workspaces)
        return
    rows = (
        (one["id"], one["name"], one["template"], one["state"], one["chat_id"], one["expires_at"] or "-", one["detail"])
        for one in workspaces
    )
    _show_table(("ID", "name", "template", "state", "chat", "until", "why"), rows)


def show_workspace_hosts(hosts: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """What ``GET /api/v1/admin/workspace-hosts`` answered."""
    if as_json:
        _show_json(hosts)
        return
    rows = (
        (
            one["name"],
            one["address"],
            one["provider"],
            one["state"],
            str(one["workspaces"]),
            f"{one['heartbeat_age_seconds']:.1f} s",
            one["problem"],
        )
        for one in hosts
    )
    _show_table(("name", "address", "provider", "state", "workspaces", "heartbeat", "problem"), rows)


def _show_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _show_table(columns: Sequence[str], rows: Any) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(tame(cell or "") for cell in row))  # it may be of others' making
    # A pipe has no width; cutting an ID in it would make it useless.
    console = Console(highlight=False, markup=False, emoji=False)  # names are what they are
    if not console.is_terminal:
        console.width = 1000
    console.print(table)


def _moment(value: datetime | None) -> str:
    return value.astimezone().strftime("%Y-%m-%d %H:%M") if value else "-"
