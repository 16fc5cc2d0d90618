"""What is reported reaches every listener, and no listener harms the one that reports."""

from __future__ import annotations

import io
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
    assert telemetry.failures() == before + 1
