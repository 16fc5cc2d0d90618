"""A container engine of this machine, where the environment names its socket: what a test does to its containers
itself, as an operator would. Without it no test asks for one; `scripts/engines` has it."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any
from urllib.parse import quote

SOCKET_VARIABLE, IMAGE_VARIABLE = "CHATCLUSTER_TEST_DOCKER_SOCKET", "CHATCLUSTER_TEST_DOCKER_IMAGE"
ENGINE_SOCKET = os.environ.get(SOCKET_VARIABLE, "")
ENGINE_IMAGE = os.environ.get(IMAGE_VARIABLE, "chatcluster-workspace:latest")
SECONDS_MAX = 30.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=SECONDS_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def asked(method: str, path: str) -> Any:
    """What the engine answers, in the newest version of its API."""
    connection = _Connection(ENGINE_SOCKET)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status < 400, body
    return json.loads(body) if body else None


def kill(name: str) -> None:
    asked("POST", f"/containers/{name}/kill")


def running(label: str) -> int:
    """How many containers run that have the label."""
    return len(asked("GET", f"/containers/json?filters={quote(json.dumps({'label': [label]}))}"))
