"""Traces for OpenTelemetry: what turns, attempts and calls did, told to an endpoint, if there is one.

``environment.py`` says where to, from the variables that OpenTelemetry names; without an endpoint nothing else of this
folder is imported. ``spans.py`` makes spans of what the loops report through ``telemetry``, ``otlp.py`` the bytes that
go on the wire, and ``export.py`` is the queue and the task that sends.

Ours and not OpenTelemetry's SDK, whose exporter is a thread: while that encodes, it takes the interpreter from the loop
at each of the loop's system calls, for milliseconds each time, and a token has several of those on its way. Here a span
is encoded once, at its end, in microseconds, and sent by the loop. In the tests OpenTelemetry's own types read them.
"""
