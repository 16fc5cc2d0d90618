"""The command ``simulate-llm``: what it is told by flags, and how it ends."""

from __future__ import annotations

import os
import signal
from typing import Any

import click
import trio

from chatcluster.cli.flags import ready_fd_option
from chatcluster.errors import ConfigError


class _WithDirectives(click.Command):
    """Its help ends with what a prompt can order."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        from chatcluster.llm.simulator.server import directives_help

        formatter.write(f"\n{directives_help()}\n")


@click.command("simulate-llm", cls=_WithDirectives)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=8200, show_default=True, help="0 picks a free one")
@click.option("--tokens-per-second", type=click.FloatRange(0), default=50.0, show_default=True, help="0: all at once")
@click.option(
    "--first-token-ms", type=click.FloatRange(0), default=0.0, show_default=True, help="Wait before an answer"
)
@click.option("--tokens", type=click.IntRange(0), help="Answer in so many words: w0 w1 w2 …")
@click.option("--seed", type=int, default=0, show_default=True, help="Draw the words; 0 counts")
@click.option(
    "--mode",
    type=click.Choice(["markdown", "words", "echo", "results", "request", "silent", "clock"]),
    help="What is said where a prompt orders nothing. Default: Markdown, or words where --tokens or --seed is given",
)
@click.option("--context-tokens", type=click.IntRange(0), default=0, help="Refuse longer prompts; 0: none is too long")
@click.option(
    "--too-long",
    type=click.Choice(["openai", "anthropic", "too-large", "gemini", "vllm", "llamacpp", "cut"]),
    help="How they are refused; cut: they are cut without a word. Default: as is usual on the wire",
)
@click.option(
    "--ledger",
    default="",
    metavar="FILE",
    help="Note each answer in this file; its number is told as cached tokens",
)
@ready_fd_option
def simulate_llm(*, ready_fd: int | None, **options: Any) -> None:
    """Run a simulated model.

    It is a server that answers, calls tools, and fails, on demand.

    \b
    chatcluster simulate-llm --tokens-per-second 20
    chatcluster up --llm-base-url http://127.0.0.1:8200/v1 --llm-api-key any --llm-model simulated

    It speaks Chat Completions, Anthropic's Messages and OpenAI's Responses, below the same base URL.

    What is in double brackets in a prompt steers the answer to it; all orders are listed below.

    \b
    Tell me a story [[tokens=500 tps=20]]
    What is it like there? [[call=weather {"city": "Bern"}]] [[call=weather {"city": "Rom"}]]
    Tell me a story [[fail=429 retry_after=2 times=1]]
    Tell me a story [[cut_after=10 times=2]]
    """
    from chatcluster.llm.simulator.server import SimulatorOptions

    trio.run(_serve, SimulatorOptions(**options), ready_fd)


async def _serve(options: Any, ready_fd: int | None) -> None:
    from chatcluster.llm.simulator.server import serve as run

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            try:
                url = await nursery.start(run, options)
            except OSError as error:
                raise ConfigError(f"cannot listen on {options.host} port {options.port}: {error.strerror}") from None
            except UnicodeError:
                raise ConfigError(f"cannot listen on {options.host}: it is no host name") from None
            if ready_fd is None:
                click.echo(f"A simulated model answers at {url}")
            else:
                port = int(url.removesuffix("/v1").rpartition(":")[2])
                os.write(ready_fd, b'{"port":%d}\n' % port)
            async for _ in signals:
                nursery.cancel_scope.cancel()
