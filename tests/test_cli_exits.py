"""How commands end: one line and an exit code, whatever becomes of what they say."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import click
import pytest

from chatcluster.cli import commands as cli
from chatcluster.cli import exits
from chatcluster.errors import ConfigError, Fenced, StoreUnavailable

PRINTS_INTO_A_CLOSED_PIPE = """
from chatcluster.cli import exits
def command():
    print("still buffered")
    raise ExceptionGroup("from a nursery", [BrokenPipeError()])
raise SystemExit(exits.exit_code_of(command))
"""


class TestEnds:
    """Whatever a command raises on purpose becomes one line, also out of nurseries; a bug stays a traceback."""

    def run_raising(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(cli.commands, "main", fail)
        return cli.run([])

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (ConfigError("wrong"), exits.USAGE),
            (StoreUnavailable("gone"), exits.FAILED),
            (ExceptionGroup("", [ExceptionGroup("", [ConfigError("wrong")])]), exits.USAGE),
            (KeyboardInterrupt(), exits.INTERRUPTED),
            (BaseExceptionGroup("", [KeyboardInterrupt()]), exits.INTERRUPTED),
        ],
        ids=repr,
    )
    def test_exit_code(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int) -> None:
        assert self.run_raising(monkeypatch, error) == status

    def test_output_that_nobody_reads_any_more_ends_a_command_quietly(self) -> None:
        """`chatcluster chat ... | head`"""
        read_fd, write_fd = os.pipe()
        os.close(read_fd)
        with open(write_fd, "wb") as unread:
            command = [sys.executable, "-c", PRINTS_INTO_A_CLOSED_PIPE]
            ended = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True)
        assert (ended.returncode, ended.stderr) == (exits.UNHEARD, "")

    def test_output_that_fits_nowhere_is_one_line_and_no_traceback(self) -> None:
        """`chatcluster user list > a-full-disk`"""
        with open("/dev/full", "wb") as full:
            command = [sys.executable, "-m", "chatcluster", "--help"]
            ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
            unheard = subprocess.run(command, stdout=full, stderr=full)
        assert (ended.returncode, ended.stderr.count("\n")) == (exits.FAILED, 1)
        assert "No space left" in ended.stderr
        assert unheard.returncode == exits.FAILED

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EPIPE])
    def test_a_cluster_goes_on_where_what_it_says_can_be_written_nowhere(
        self, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """P10: on a full disk, or when its terminal was closed."""

        def fail(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(click, "echo", fail)
        cli._tell("replica-1: something happened")

    def test_a_bug_is_not_hidden_behind_an_error_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = ExceptionGroup("", [Fenced("late"), ZeroDivisionError()])
        with pytest.raises(ExceptionGroup):
            self.run_raising(monkeypatch, group)
