"""What is reported reaches every listener, and no listener harms the one that reports."""

from __future__ import annotations

import io
import os
import sys

import pytest
import structlog

from chatcluster import telemetry
from chatcluster.metrics import Metrics


def test_a_listener_that_fails_harms_neither_the_others_nor_the_one_that_reports() -> None:
    heard: list[str] = []

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    before = telemetry.failures()
    telemetry.subscribe(broken)
    telemetry.subscribe(lambda name, _: heard.append(name))
    try:
        telemetry.event("chat.claimed")
        with telemetry.span("chat.tenure"):
            pass
    finally:
        del telemetry._listeners[-2:]
    assert heard == ["chat.claimed", "chat.tenure"]
    assert telemetry.failures() == before + 2
    assert b"chatcluster_telemetry_failures" in Metrics().render()


def test_a_closed_standard_error_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    before = telemetry.failures()
    telemetry.configure_logging("info", "json")
    try:
        telemetry.event("chat.claimed")
    finally:
        telemetry.unsubscribe(telemetry.log_listener)
        structlog.reset_defaults()
    assert telemetry.failures() == before + 1


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
