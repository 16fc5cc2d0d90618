"""The commands that README and docs/ show are commands: each name and each flag of them is there. And what lists of
commands say of each is a whole sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from chatcluster.cli import commands as cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+ )*chatcluster (.+)")


def shown_commands() -> Iterator[str]:
    """What stands behind ``chatcluster`` in each line of a shell."""
    for block in (block for page in PAGES for block in _BLOCK.findall(page.read_text())):
        for line in block.replace("\\\n", " ").splitlines():
            for piece in re.split(r"\s+[|;&]+\s+", line):
                if found := _COMMAND.match(piece):
                    yield found[1]


def command_of(words: list[str]) -> click.Command:
    """The command that the words begin with, which are taken from them."""
    command: click.Command = cli.commands
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.commands.get(name)
        assert found is not None, f"there is no command {name}"
        command = found
    return command


@pytest.mark.parametrize("shown", sorted(set(shown_commands())))
def test_a_command_of_the_documents_can_be_typed(shown: str) -> None:
    words = shlex.split(shown, comments=True)
    command = command_of(words)
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - flags - {"--help"}
    assert not unknown, f"{command.name} has no {unknown}"


def groups(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        yield path
        for name, inner in command.commands.items():
            yield from groups(inner, *path, name)


@pytest.mark.parametrize("path", list(groups(cli.commands)), ids=" ".join)
def test_a_list_of_commands_says_of_each_what_it_does_in_a_whole_sentence(path: tuple[str, ...]) -> None:
    listed = CliRunner().invoke(cli.commands, [*path, "--help"]).output.partition("Commands:\n")[2]
    assert listed
    assert "..." not in listed, "the first sentence of a command's docstring is too long for the list"
