"""An endpoint for spans on this machine, which reads them with OpenTelemetry's own types."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

STOP_SECONDS = 0.01


class Receiver(ThreadingHTTPServer):
    """An endpoint of its own thread, on this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    @property
    def spans(self) -> list[Any]:
        """All that came."""
        found: list[Any] = []
        for _, headers, body in list(self.requests):
            data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            for of_resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                found += [span for of_scope in of_resource.scope_spans for span in of_scope.spans]
        return found


def attributes_of(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed."""


@contextmanager
def open_receiver() -> Iterator[Receiver]:
    """One that takes what comes, in a thread, for the length of the block."""
    with Receiver() as server:
        thread = Thread(target=server.serve_forever, args=(STOP_SECONDS,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
