"""The command line of the chaos run: what it refuses, and how it ends. No cluster is started here."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import chaos.__main__ as command
import pytest
import trio
from chaos import harms
from chaos.beside import open_beside
from chaos.cluster import Cluster
from chaos.faults import ABOUT, BOUND_SECONDS, FAULTS, NEEDS
from chaos.options import ClusterOptions, Options
from click.testing import CliRunner

THEIRS = ("--url", "http://chat.example", "--token", "t")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What the run that is left out was to do."""
    asked: list[Options] = []

    async def run(options: Options) -> dict[str, Any]:
        asked.append(options)
        return {"violations": 0}

    monkeypatch.setattr(command, "_run", run)
    return asked


def chaos(*arguments: str) -> tuple[int, str]:
    """The exit status, and all that was printed."""
    result = CliRunner().invoke(command.chaos, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--faults fire", "fire"),
        ("--faults", "--faults"),
        ("--mix send=many", "many"),
        ("--mix roses=1", "roses"),
        ("--mix send=0", "weight"),
        ("--mix send=1,edit=-1", "weight"),
        ("--replicas 1", "--replicas"),
        ("--chats 0", "--chats"),
        ("--kills -1", "--kills"),
        ("--minutes -1", "--minutes"),
        ("--pause -1 1", "--pause"),
        ("--stop-seconds 9 6", "--stop"),
        ("--answer-seconds 4", "--answer-seconds"),
        ("--tokens-per-second 0", "--tokens-per-second"),
        ("--drain-seconds -1", "--drain-seconds"),
        ("--proxy squid", "--proxy"),
        ("--log /nowhere/at/all.jsonl", "--log"),
        ("--url http://chat.example", "--token"),
        ("--url chat.example --token t", "--url"),
        (" ".join((*THEIRS, "--faults", "redis-flush")), "redis-flush"),
        (" ".join((*THEIRS, "--proxy", "nginx")), "--proxy"),
        (" ".join((*THEIRS, "--tools")), "--tools"),
        (" ".join((*THEIRS, "--beside", "v0.1.0")), "--beside"),
        ("--tools --faults failover", "failover"),
    ],
)
def test_bad_arguments_are_refused_by_name_before_anything_is_done(
    asked: list[Options], arguments: str, named: str
) -> None:
    status, output = chaos(*arguments.split())
    assert (status, asked) == (2, [])
    assert named in output.rpartition("Error:")[2]


def test_all_faults_are_all_there_are_and_of_a_foreign_cluster_those_of_replicas_and_readers(
    asked: list[Options],
) -> None:
    chaos("--faults", "all")
    chaos("--faults", "all", *THEIRS)
    ours, theirs = asked
    assert set(ours.faults.kinds) == set(FAULTS)
    assert set(theirs.faults.kinds) == {"kill", "stop", "term", "client-drop", "slow-reader"}


def test_each_fault_has_a_bound_and_is_told_of_in_the_help() -> None:
    _, output = chaos("--help")
    assert set(ABOUT) == set(FAULTS) == set(BOUND_SECONDS)
    assert set(NEEDS) <= set(FAULTS)
    for kind, about in ABOUT.items():
        assert f"{kind} " in output
        assert about in output


def test_replicas_of_another_commit_are_half_of_them_behind_a_proxy(asked: list[Options]) -> None:
    """P6: an upgrade goes on one replica after the other."""
    assert chaos("--beside", "v0.1.0", "--replicas", "5")[0] == 0
    cluster = asked[0].cluster
    assert (cluster.beside, cluster.others, cluster.proxy) == ("v0.1.0", 2, "haproxy")
    assert chaos("--beside", "v0.1.0", "--proxy", "nginx")[0] == 0
    assert asked[1].cluster.proxy == "nginx"


async def test_p6_a_commit_that_git_does_not_know_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    cluster = Cluster("http://127.0.0.1:1", "token", tmp_path, None, None)
    with pytest.raises(RuntimeError, match="no-such-commit"):
        async with open_beside(Options(cluster=ClusterOptions(beside="no-such-commit")), cluster):
            pass


def test_a_fault_that_this_machine_has_no_program_for_is_left_out_and_that_is_said(
    asked: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harms, "find_basebackup", lambda: None)
    status, output = chaos("--faults", "kill,failover")
    assert (status, asked[0].faults.kinds) == (0, ("kill",))
    assert "failover is left out: there is no pg_basebackup here" in output


def test_if_none_is_left_nothing_is_done(asked: list[Options], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harms, "find_basebackup", lambda: None)
    status, output = chaos("--faults", "failover")
    assert (status, asked) == (2, [])
    assert "failover" in output.rpartition("Error:")[2]


@pytest.mark.parametrize(("violations", "expected"), [(0, 0), (2, 1)])
def test_the_exit_status_tells_of_broken_promises_and_the_last_line_is_the_summary(
    monkeypatch: pytest.MonkeyPatch, violations: int, expected: int
) -> None:
    async def run(_: Options) -> dict[str, Any]:
        return {"violations": violations}

    monkeypatch.setattr(command, "_run", run)
    status, output = chaos()
    assert status == expected
    assert output.splitlines()[-1] == f'{{"violations":{violations}}}'


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (RuntimeError("the cluster does not start"), "the cluster does not start"),
        (subprocess.CalledProcessError(255, "ssh host"), "Command 'ssh host' returned non-zero exit status 255."),
        (ProcessLookupError(3, "No such process"), "[Errno 3] No such process"),
        (trio.TooSlowError(), "TooSlowError()"),
    ],
)
def test_a_run_that_cannot_go_on_says_why_and_accuses_nobody(
    monkeypatch: pytest.MonkeyPatch, why: Exception, said: str
) -> None:
    async def run(_: Options) -> dict[str, Any]:
        raise why

    monkeypatch.setattr(command, "_run", run)
    status, output = chaos()
    assert status == 3
    assert output.splitlines()[-1] == f"Error: {said}"


def test_ctrl_c_ends_the_run_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    async def run(_: Options) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        finally:
            stopped.append("cluster")

    monkeypatch.setattr(command, "_run", run)
    status, output = chaos()
    assert (status, stopped) == (130, ["cluster"])
    assert "Traceback" not in output


def test_a_record_is_kept_where_it_was_asked_for(asked: list[Options], tmp_path: Path) -> None:
    chaos("--log", str(tmp_path / "record.jsonl"))
    assert asked[0].log == tmp_path / "record.jsonl"
