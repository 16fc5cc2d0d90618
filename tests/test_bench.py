"""The bench measures what it says: its arithmetic, its wire, its table. No cluster is started here."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import bench.__main__ as command
import pytest
import trio
from bench.errors import BenchError
from bench.figures import KINDS, Case, shown
from bench.load.loop import Connection, Loop
from bench.load.people import epoch_of, is_answer, is_at_rest
from bench.model import InsideModel
from bench.report import as_json, comparison, missed, read_run, table
from bench.run import Results
from bench.samples import median, percentile, spread
from bench.sides import NOW, open_sides, side_of
from bench.stamps import account, stamps_in
from bench.targets import TARGETS, Target, targets_of
from bench.workloads import BY_NAME, WORKLOADS
from click.testing import CliRunner
from event_wire import AnswerParser, Event, StreamParser, parse_event, request
from hypothesis import given
from hypothesis import strategies as st

from chatcluster import events
from chatcluster.llm.simulator.script import expected_text
from chatcluster.parts import (
    Cursor,
    Message,
    Part,
    PartFrame,
    Position,
    Role,
    TextPart,
    encode,
    text_of,
)
from chatcluster.ports import Delta, Finished, ModelRequest

# --- samples ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1), (0.01, 1)]
)
def test_a_percentile_is_the_smallest_sample_that_so_many_do_not_exceed(fraction: float, expected: int) -> None:
    assert percentile(range(1, 101), fraction) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_no_more_than_the_rest_exceed_a_percentile(samples: list[float], fraction: float) -> None:
    value = percentile(sorted(samples), fraction)
    assert value in samples
    assert sum(sample <= value for sample in samples) >= fraction * len(samples) - 1e-6


def test_the_spread_of_a_latency_needs_no_order_and_is_empty_without_samples() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"p50_ms": 2.0, "p99_ms": 3.0, "max_ms": 3.0}
    assert spread([]) == {}
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_the_median_is_the_middle_or_the_mean_of_the_two_there() -> None:
    assert median([9, 1, 5]) == 5
    assert median([9, 1, 5, 7]) == 6
    with pytest.raises(ValueError, match="no values"):
        median([])


# --- stamps -----------------------------------------------------------------------------------


def part(text: str) -> bytes:
    return encode(PartFrame(1, TextPart(text)))


@pytest.mark.parametrize(("text", "stamps"), [("12 ", [12]), ("12 15 19 ", [12, 15, 19]), ("", [])])
def test_the_stamps_of_a_part_are_its_tokens(text: str, stamps: list[int]) -> None:
    assert stamps_in(part(text)) == stamps


def test_text_that_is_no_stamp_is_an_error_and_no_token() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        stamps_in(part("12 Hello "))


def test_a_token_is_lost_if_the_message_has_it_and_the_reader_does_not() -> None:
    assert account([1, 2, 4], [1, 2, 3, 4], expected=4) == (1, 0, 0)


def test_a_token_is_not_lost_if_it_came_in_the_message_while_the_reader_was_away() -> None:
    assert account([1, 2], [1, 2, 3, 4], expected=4, away_at_end=True).lost == 0
    assert account([1, 3], [1, 2, 3, 4], expected=4, away_at_end=True).lost == 1
    assert account([1, 2], [1, 2, 3], expected=4, away_at_end=True).lost == 1


def test_a_token_is_lost_if_it_was_ordered_and_is_in_no_message() -> None:
    assert account([1, 2], [1, 2], expected=3) == (1, 0, 0)


def test_a_token_that_came_twice_is_doubled_and_one_that_came_late_is_out_of_order() -> None:
    assert account([1, 2, 2, 3], [1, 2, 3], expected=3) == (0, 1, 0)
    assert account([1, 3, 2], [1, 2, 3], expected=3) == (0, 0, 1)
    assert account([1, 2, 3], [1, 2, 3], expected=3) == (0, 0, 0)


# --- the wire ---------------------------------------------------------------------------------

CURSOR = Cursor(3, Position(2, 7))
MESSAGE = Message(5, Role.ASSISTANT, (TextPart("12 15 "),), 3, datetime(2026, 1, 1, tzinfo=UTC))
BLOCKS = (
    b": open\nretry: 500\n" + events.with_id(CURSOR, events.named("part", part("12 "))),
    b": hb\n\n",
    events.with_id(CURSOR, events.body(events.MessageEvent(MESSAGE))),
    events.with_id(CURSOR, events.body(events.StatusEvent("waiting", False, 2, None))),
)


def chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 \r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def parsed(pieces: list[bytes]) -> list[Event]:
    parser = StreamParser()
    return [parse_event(block) for piece in pieces for block in parser.feed(piece)]


def test_events_are_read_as_the_server_writes_them() -> None:
    first, heartbeat, message, status = parsed([chunked(*BLOCKS)])
    assert first == ("3.2-7", b"part", part("12 "))
    assert heartbeat.kind == b""
    assert is_answer(message)
    assert stamps_in(message.data) == [12, 15]
    assert is_at_rest(status)
    assert not is_at_rest(first)
    assert epoch_of(first) == 2


def test_events_are_the_same_wherever_the_wire_cuts_them() -> None:
    wire = chunked(*BLOCKS, b"".join(BLOCKS))
    whole = parsed([wire])
    assert len(whole) == 8
    assert parsed([wire[index : index + 1] for index in range(len(wire))]) == whole
    for cut in range(1, len(wire)):
        assert parsed([wire[:cut], wire[cut:]]) == whole


def test_a_refused_stream_has_a_status_and_no_events() -> None:
    parser = StreamParser()
    assert parser.feed(b"HTTP/1.1 404 \r\ncontent-length: 2\r\n\r\n{}") == []
    assert (parser.status, parser.refusal) == (404, b"{}")


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_stream_is_whole_when_its_last_chunk_has_come_and_not_before(size: int) -> None:
    wire = chunked(*BLOCKS) + b"0\r\n\r\n"
    parser = StreamParser()
    for start in range(0, len(wire) - 4, size):
        parser.feed(wire[start : min(start + size, len(wire) - 4)])
        assert not parser.is_whole
    parser.feed(wire[-4:])
    assert parser.is_whole


def test_a_proxy_may_pass_a_stream_on_without_chunks() -> None:
    wire = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"".join(BLOCKS)
    assert parsed([wire]) == parsed([chunked(*BLOCKS)])


def test_answers_on_one_connection_are_told_apart_by_their_lengths() -> None:
    wire = b'HTTP/1.1 201 \r\nContent-Length: 9\r\n\r\n{"id":42}HTTP/1.1 204 \r\n\r\n'
    parser = AnswerParser()
    answers = [answer for index in range(len(wire)) for answer in parser.feed(wire[index : index + 1])]
    assert answers == [(201, b'{"id":42}'), (204, b"")]


def test_a_request_carries_token_cursor_and_body() -> None:
    head, _, body = request("POST", "/chats", "secret", {"content": "é"}, cursor="1.2-3").partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert first == "POST /api/v1/chats HTTP/1.1"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Last-Event-ID"] == "1.2-3"
    assert int(headers["Content-Length"]) == len(body)
    assert json.loads(body) == {"content": "é"}


class Echoed(Connection):
    got = b""
    ended = False

    def received(self, data: bytes) -> None:
        self.got += data

    def closed(self) -> None:
        self.ended = True


async def test_the_loop_sends_and_receives_and_notices_the_end() -> None:
    sent = b"x" * (4 << 20)

    async def echo(stream: trio.SocketStream) -> None:
        left = len(sent)
        while left:
            data = await stream.receive_some()
            left -= len(data)
            await stream.send_all(data)

    def talk(port: int) -> Echoed:
        loop = Loop()
        connection = Echoed(loop, ("127.0.0.1", port))
        connection.send(sent)
        ended = loop.run(lambda: connection.ended, 10.0)
        loop.close()
        assert ended
        return connection

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        echoed = await trio.to_thread.run_sync(talk, listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
    assert echoed.got == sent
    assert not echoed.is_open


def test_the_loop_runs_timers_in_their_order_and_ends_with_its_time() -> None:
    loop = Loop()
    ran: list[str] = []
    loop.call_later(0.02, lambda: ran.append("second"))
    loop.call_later(0.01, lambda: ran.append("first"))
    assert loop.run(lambda: len(ran) == 2, 5.0)
    assert ran == ["first", "second"]
    assert not loop.run(lambda: False, 0.01)
    loop.close()


# --- the model inside -------------------------------------------------------------------------


async def answer_to(prompt: str) -> tuple[str, list[float]]:
    """What the model says, and when each token was said."""
    asked = Message(1, Role.USER, (TextPart(prompt),), 1, datetime(2026, 1, 1, tzinfo=UTC))
    parts: list[Part] = []
    times: list[float] = []
    async with InsideModel().stream(ModelRequest(uuid4(), (asked,))) as said:
        async for event in said:
            if isinstance(event, Delta):
                parts.append(event.part)
                times.append(trio.current_time())
            else:
                assert isinstance(event, Finished)
    return text_of(parts), times


@pytest.mark.parametrize("prompt", ["[[tokens=10 tps=0]]", "[[say=as you like it]]", "[[tokens=200 tps=0 seed=7]]"])
async def test_the_model_inside_says_what_the_simulated_provider_says(prompt: str) -> None:
    assert (await answer_to(prompt))[0] == expected_text(prompt)


async def test_the_model_inside_keeps_the_pace_after_a_burst(autojump_clock: trio.abc.Clock) -> None:
    started = trio.current_time()
    _, times = await answer_to("burst:3 [[tokens=6 tps=10]]")
    assert [time - started for time in times] == pytest.approx([0, 0, 0, 0, 0.1, 0.2])


# --- figures, targets, the table --------------------------------------------------------------


def case(*runs: dict[str, float], workload: str = "first-token", name: str = "concurrency 1") -> Case:
    return Case(workload, name, "turn", list(runs))


RUNS = ({"p50_ms": 6.0, "max_ms": 20.0, "lost": 0}, {"p50_ms": 7.0, "max_ms": 90.0}, {"p50_ms": 9.0, "max_ms": 30.0})


def test_repeats_become_their_median_and_the_worst_where_one_is_too_many() -> None:
    assert case(*RUNS).merged() == {"p50_ms": 7.0, "max_ms": 90.0, "lost": 0}
    assert case(*RUNS).spread("p50_ms") == (6.0, 9.0)


def test_a_target_is_met_at_its_limit() -> None:
    assert Target(8).met(8)
    assert not Target(8).met(8.1)
    assert Target(150, at_least=True).met(150)
    assert not Target(150, at_least=True).met(149)


def test_every_target_is_one_of_a_workload_and_a_figure_that_exist() -> None:
    for (workload, _), targets in TARGETS.items():
        assert workload in BY_NAME
        assert set(targets) <= set(KINDS)
    assert {workload for workload, _ in TARGETS} == {workload.name for workload in WORKLOADS}


def test_no_workload_may_lose_a_lease() -> None:
    assert targets_of("stream", "a new case")["leases_lost"] == Target(0)


def test_the_table_has_the_target_beside_the_figure_and_whether_it_is_met() -> None:
    text = table([case(*RUNS), case({"p50_ms": 50.0}, name="concurrency 10")])
    rows = [line.split() for line in text.splitlines()]
    assert ["p50", "7.00", "ms", "≤", "8", "met", "6.00", "to", "9.00"] in rows
    assert ["p50", "50.00", "ms", "≤", "40", "NOT", "MET"] in rows
    assert "max 90.0 ms" in text


def test_what_was_missed_is_said_again_at_the_end() -> None:
    slow = case({"p50_ms": 50.0}, name="concurrency 10")
    assert missed([case(*RUNS), slow]) == ["first-token, concurrency 10: p50 50.00 ms, asked ≤ 40"]
    assert missed([case(*RUNS)]) == []


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("throughput", 250.4, "250 turns/s"),
        ("transactions", 3.1234, "3.12/turn"),
        ("replica_cpu_s", 0.15, "0.150 s/1000 turns"),
        ("lost", 0, "0"),
    ],
)
def test_a_figure_is_shown_with_its_unit(figure: str, value: float, text: str) -> None:
    assert shown(figure, value, "turn") == text


def written(*cases: Case) -> Any:
    return read_run(as_json(cases, {"cores": 2}))


def test_the_json_has_an_object_for_each_workload_with_figures_targets_and_repeats() -> None:
    (line,) = as_json([case(*RUNS)], {"cores": 2}).splitlines()
    assert json.loads(line)["workload"] == "first-token"
    assert json.loads(line)["conditions"] == {"cores": 2}
    told = json.loads(line)["cases"]["concurrency 1"]
    assert told["figures"]["p50_ms"] == 7.0
    assert told["targets"]["p50_ms"] == {"limit": 8, "at_least": False, "met": True}
    assert len(told["runs"]) == 3


def test_a_comparison_tells_the_ratio_of_each_figure_and_which_way_is_better() -> None:
    old = written(case({"p50_ms": 8.0, "throughput": 100.0, "max_ms": 10.0}, name="concurrency 50"))
    text = comparison(old, [case({"p50_ms": 4.0, "throughput": 50.0, "max_ms": 11.0}, name="concurrency 50")])
    rows = {line.split()[0]: line.split() for line in text.splitlines()[1:]}
    assert rows["p50"][-3:] == ["×", "0.50", "better"]
    assert rows["throughput"][-3:] == ["×", "0.50", "worse"]
    assert rows["max"][-3:] == ["×", "1.10", "worse"]


def test_a_comparison_leaves_out_what_only_one_run_has() -> None:
    old = written(case({"p50_ms": 8.0}))
    assert comparison(old, [case({"p50_ms": 8.0}, name="concurrency 2")]) == "The two runs have no case in common."


def test_a_comparison_shows_what_has_a_target_or_has_changed() -> None:
    old = written(case({"p50_ms": 8.0, "p99_ms": 20.0, "load_share": 0.1, "lost": 0}))
    text = comparison(old, [case({"p50_ms": 8.1, "p99_ms": 20.2, "load_share": 0.5, "lost": 0})])
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["p50"]


def test_a_comparison_with_nothing_lost_divides_by_nothing() -> None:
    text = comparison(written(case({"lost": 0})), [case({"lost": 2})])
    assert text.splitlines()[1].split() == ["lost", "0", "→", "2", "worse"]


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"something": "else"}'])
def test_a_file_that_is_no_run_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--json"):
        read_run(text)


# --- the command ------------------------------------------------------------------------------


def bench(*arguments: str) -> tuple[int, str]:
    """The exit status, and all that was printed."""
    result = CliRunner().invoke(command.bench, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.fixture
def never_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    async def measure(*_: object) -> None:
        pytest.fail("what is wrong with the arguments is said before anything is measured")

    monkeypatch.setattr(command, "run", measure)


@pytest.mark.usefixtures("never_measures")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--workload", "roses"),
        ("--repeat", "0"),
        ("--compare", "{here}/none.json"),
        ("--compare", "{here}/other.json"),
        ("--json", "{here}/none/new.json"),
        ("--json", "{here}"),
    ],
)
def test_bad_arguments_are_refused_by_name_before_anything_is_measured(
    tmp_path: Path, arguments: tuple[str, str]
) -> None:
    (tmp_path / "other.json").write_text("other")
    name, value = arguments
    status, output = bench(name, value.format(here=tmp_path))
    assert status == 2
    assert name in output


@pytest.mark.parametrize("flag", [["--json"], ["--json", "-"]])
def test_json_without_a_file_is_all_that_standard_output_has(monkeypatch: pytest.MonkeyPatch, flag: list[str]) -> None:
    async def measure(*_: object) -> Results:
        return Results({NOW: [case(*RUNS)]})

    monkeypatch.setattr(command, "run", measure)
    result = CliRunner().invoke(command.bench, flag)
    assert result.exit_code == 0
    assert read_run(result.stdout).keys() == {"first-token"}
    assert "first-token, concurrency 1" in result.stderr
    assert "0 target(s) missed" in result.stderr


@pytest.mark.usefixtures("never_measures")
def test_the_list_has_every_workload() -> None:
    status, output = bench("--list")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == list(BY_NAME)


def test_ctrl_c_ends_the_run_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    async def measure(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        finally:
            stopped.append("servers")

    monkeypatch.setattr(command, "run", measure)
    status, output = bench()
    assert (status, stopped) == (130, ["servers"])
    assert "Traceback" not in output


# --- two versions in turns --------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tests", "trials"])
def test_a_side_finds_its_own_packages_before_all_others(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder / "bench").mkdir(parents=True)
    assert side_of("then", tmp_path).environment == {"PYTHONPATH": f"{tmp_path}:{tmp_path / folder}"}


def test_the_repeats_of_a_case_come_together_in_whatever_order_the_sides_take_turns() -> None:
    results = Results()
    for side, run in zip(("then", NOW, "then", NOW), (*RUNS[:2], *RUNS[:2]), strict=True):
        results.add(side, [case(run)])
    assert [found.runs for found in results.now] == [[RUNS[1], RUNS[1]]]
    assert [found.runs for found in results.cases["then"]] == [[RUNS[0], RUNS[0]]]


async def test_a_commit_that_git_does_not_know_is_an_error_before_anything_starts() -> None:
    with pytest.raises(BenchError, match="worktree"):
        async with open_sides("no-such-commit"):
            pytest.fail("there is nothing to measure against")
