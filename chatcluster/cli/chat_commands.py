"""The commands for chats: to talk to one, which there are, what was said in them, to have one summarised, and to begin
a new one with the history of another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import trio

from chatcluster.cli import exits
from chatcluster.cli.connected import ask
from chatcluster.cli.file_commands import EXISTING
from chatcluster.cli.flags import server_options
from chatcluster.client.client import Client
from chatcluster.client.tool_calls import Json
from chatcluster.local.local_cluster import reach
from chatcluster.texts import tame


@click.command()
@click.option("--search", "-q", "words", metavar="WORDS", help="Only chats with this in their title")
@click.option("--archived", is_flag=True, help="Only chats in the archive")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def chats(*, words: str | None, archived: bool, limit: int, as_json: bool, **server: Any) -> None:
    """List your chats, newest first.

    \b
    chatcluster chats -q invoice
    chatcluster history ID
    chatcluster chat --chat ID
    """
    from chatcluster.cli.listings import show_chats

    query = {"archived": archived} | ({} if words is None else {"q": words})

    async def fetch(client: Client) -> list[Json]:
        found: list[Json] = []
        has_more = True
        while has_more and len(found) < limit:
            after = {"after": found[-1]["id"]} if found else {}
            page = await client.chats(limit=min(100, limit - len(found)), **query, **after)
            found += page["chats"]
            has_more = page["has_more"]
        return found

    show_chats(ask(server, Client, fetch), as_json=as_json)


@click.command()
@click.argument("chat_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The chat and its messages as JSON instead of Markdown")
@server_options
def history(*, chat_id: str, as_json: bool, **server: Any) -> None:
    """Print what was said in a chat, as Markdown."""
    form = "json" if as_json else "markdown"
    text = ask(server, Client, lambda client: client.export(chat_id, form)).decode()
    is_screen = sys.stdout is not None and sys.stdout.isatty()
    click.echo(tame(text) if is_screen else text, nl=as_json)


@click.command()
@click.argument("chat_id", metavar="CHAT")
@server_options
def compact(*, chat_id: str, url: str | None, token: str | None, data_dir: Path) -> None:
    """Have a CHAT summarised.

    From then on the model is told the summary, and what is said after it.

    The chat has to rest, or to have ended in an error. Within `chatcluster chat` the line /compact does the same.
    """
    from chatcluster.cli.terminal_chat import Conversation

    if not trio.run(Conversation(*reach(url, token, data_dir), chat_id=chat_id).compact):
        raise click.exceptions.Exit(exits.FAILED)


@click.command()
@click.argument("chat_id", metavar="CHAT")
@click.argument("message_id", metavar="[MESSAGE]", required=False, type=click.IntRange(1))
@server_options
def fork(*, chat_id: str, message_id: int | None, **server: Any) -> None:
    """Begin a chat with the history of another.

    Prints the ID of the new chat.

    The new one has all whole turns, or those up to a MESSAGE that ends one (`chatcluster history --json` has their
    IDs); the old one stays as it is.

    \b
    chatcluster fork ID
    chatcluster fork ID 42
    """
    made = ask(server, Client, lambda client: client.fork(chat_id, message_id))
    click.echo(made["id"])
    if sys.stderr is not None and sys.stderr.isatty():
        click.secho(f"chatcluster chat --chat {made['id']} goes on with it", err=True, dim=True)


@click.command()
@click.argument("question", required=False)
@click.option("--chat", "chat_id", metavar="ID", help="Go on with this chat instead of a new one")
@click.option("--model", help="Ask this model")
@click.option("--mcp", "slugs", multiple=True, metavar="SLUG", help="With the tools of this server; may be repeated")
@click.option("--file", "paths", multiple=True, type=EXISTING, help="Send this file along; may be repeated")
@server_options
def chat(
    *,
    question: str | None,
    chat_id: str | None,
    model: str | None,
    slugs: tuple[str, ...],
    paths: tuple[Path, ...],
    url: str | None,
    token: str | None,
    data_dir: Path,
) -> None:
    """Talk to a cluster.

    Asks one QUESTION, or without it one after the other.

    The answer is streamed, also through the loss of the replica that serves it. Ctrl-C interrupts the answer,
    a second one leaves. Without a QUESTION, what is piped in is the question.

    \b
    chatcluster chat "Why is the sky blue?"
    chatcluster chat --chat 0198c7e2-...
    chatcluster chat --file plan.pdf "Sum it up."
    chatcluster chat --mcp files "What is in my files?"
    cat letter.txt | chatcluster chat
    """
    from chatcluster.cli.prompting import converse, typed_line
    from chatcluster.cli.questions import question_of
    from chatcluster.cli.terminal_chat import Conversation

    asks = question is None and sys.stdin is not None and sys.stdin.isatty()
    typed = typed_line if asks else None
    conversation = Conversation(
        *reach(url, token, data_dir), chat_id=chat_id, model=model, mcp_servers=slugs, typed=typed
    )
    for path in paths:
        conversation.attach(path)
    ended_well = converse(conversation, _prompt) if asks else trio.run(conversation.turn, question_of(question))
    if conversation.chat_id and sys.stderr is not None and sys.stderr.isatty():
        click.secho(f"chatcluster chat --chat {conversation.chat_id} goes on with it", err=True, dim=True)
    if not ended_well:
        raise click.exceptions.Exit(exits.FAILED)


def _prompt() -> str:
    try:
        return input("> ")
    except UnicodeDecodeError:
        raise click.UsageError("the question is not text") from None
