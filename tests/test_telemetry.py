"""What is reported reaches every listener, and no listener harms the one that reports."""

from __future__ import annotations

import ast
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from chatcluster import telemetry
from chatcluster.catalogue import CRASHES, EVENTS, LEVELS, Level
from chatcluster.metrics import Metrics


def test_a_listener_that_fails_harms_neither_the_others_nor_the_one_that_reports() -> None:
    heard: list[str] = []

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    before = telemetry.failures()
    telemetry.subscribe(broken)
    telemetry.subscribe(lambda name, _: heard.append(name))
    try:
        telemetry.event("replica.started")
        with telemetry.span("chat.tenure"):
            pass
    finally:
        del telemetry._listeners[-2:]
    assert heard == ["replica.started", "chat.tenure"]
    assert telemetry.failures() == before + 2
    assert b"chatcluster_telemetry_failures" in Metrics().render()


def test_a_closed_standard_error_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    before = telemetry.failures()
    telemetry.configure_logging("info", "json")
    try:
        telemetry.event("replica.started")
    finally:
        telemetry.unsubscribe(telemetry.log_listener)
        structlog.reset_defaults()
    assert telemetry.failures() > before, "that a line could not be written is counted"


def test_p10_lines_go_to_nobody_else_when_standard_error_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a closed descriptor is given to the next connection."""
    reading, writing = os.pipe()
    standard_error = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stderr", standard_error)
    telemetry.configure_logging("info", "json")
    standard_error.close()
    pair = socket.socketpair()
    try:
        assert writing in [end.fileno() for end in pair], "the number of what was closed is given anew"
        telemetry.event("replica.started")
        for end in pair:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(1)
        assert b"replica.started" in os.read(reading, 1 << 16)
    finally:
        telemetry.unsubscribe(telemetry.log_listener)
        structlog.reset_defaults()
        os.close(reading)
        for end in pair:
            end.close()


def test_a_pipe_that_nobody_reads_stops_nothing() -> None:
    """P10: what is lost is counted, and the lines after it are whole again."""
    reading, writing = os.pipe()
    output = telemetry.Unhurried(writing)
    lost = 0
    while lost < 3:
        try:
            output.write("x" * 9999 + "\n")
        except BlockingIOError:
            lost += 1
    os.read(reading, 1 << 20)
    output.write("whole\n")
    assert os.read(reading, 1 << 20) == b"\nwhole\n"
    for descriptor in (reading, writing):
        os.close(descriptor)


# --- the catalogue ----------------------------------------------------------------------------

PACKAGE = Path(telemetry.__file__).parent
EMITTERS = {"telemetry.event", "telemetry.span", "telemetry.Seldom", "told"}


def emitted() -> Iterator[str]:
    """Every name that is reported somewhere in the code: the first argument, or those that it is chosen from."""
    for path in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in EMITTERS:
                for node in ast.walk(_chosen_from(call.args[0])):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        yield node.value


def _chosen_from(argument: ast.expr) -> ast.AST:
    if isinstance(argument, ast.IfExp):
        return ast.Tuple([argument.body, argument.orelse])
    return argument


def test_the_catalogue_has_every_event_that_is_reported_and_no_other() -> None:
    assert set(emitted()) == set(LEVELS)


def test_an_event_has_one_level_and_a_meaning() -> None:
    names = [name for events in EVENTS.values() for name in events]
    assert len(names) == len(set(names))
    assert all(name.count(".") == 1 and meaning for events in EVENTS.values() for name, meaning in events.items())
    assert all(list(events) == sorted(events) for events in EVENTS.values())


def test_a_crash_is_loud() -> None:
    assert set(EVENTS[Level.WARNING]) >= CRASHES
