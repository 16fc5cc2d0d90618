"""A model that sees: a server of Chat Completions that does what the last picture in the conversation shows it to do.

It makes itself a workspace with a form in a browser, and then knows nothing but colours: red is a field to click into,
magenta one to type into, green and blue are to be clicked, and yellow says that the form was sent.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageChops

NAME = "Ada Lovelace " + "".join(map(chr, range(0x430, 0x450))) * 2
"""Long enough to be killed in the middle of typing it."""
PIXELS_MIN = 400

PROGRAM = """
import http.server, json, pathlib
PAGE = '''<!DOCTYPE html><meta charset=utf-8><title>form</title><style>
body {margin: 0}
body > * {position: fixed; left: 100px; width: 600px; height: 60px; border: 0;
  caret-color: transparent; outline: none}</style>
<input id=name style="top: 100px; background: #ff0000" autocomplete=off>
<div id=agreed style="top: 200px; background: #00ff00"></div>
<button id=send style="top: 300px; background: #0000ff"></button>
<script>
const clicks = [], field = document.getElementById("name");
const looks = () => { field.style.background = field.value === "NAME" ? "#cccccc" : "#ff00ff" };
field.onfocus = field.oninput = looks;
document.onclick = event => clicks.push(event.target.id);
agreed.onclick = () => { agreed.style.background = "#cccccc" };
send.onclick = async () => {
  await fetch("/", {method: "POST", body: JSON.stringify({name: field.value, clicks: [...clicks, "send"]})});
  document.body.innerHTML = "<div style='top: 0; height: 600px; background: #ffff00'></div>";
};
</script>'''
class Form(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Type", "text/html; charset=utf-8"); self.end_headers()
        self.wfile.write(PAGE.encode())
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("sent.jsonl", "ab") as file:
            file.write(body + b"\\n")
        self.send_response(204); self.end_headers()
http.server.HTTPServer(("127.0.0.1", 8000), Form).serve_forever()
""".replace("NAME", NAME)
BROWSER = "chromium --kiosk --user-data-dir=/tmp/browser http://127.0.0.1:8000/"

PREPARED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("create_workspace", {"template_id": "screen"}),
    ("write_file", {"path": "form.py", "content": PROGRAM}),
    ("execute", {"command": "python3 form.py", "run_in_background": True}),
    ("execute", {"command": BROWSER, "run_in_background": True}),
)
"""Called one after the other, before it looks."""
WAIT: tuple[str, dict[str, Any]] = ("computer", {"action": "wait", "seconds": 0.5})
RED, MAGENTA, GREEN, BLUE, YELLOW = ((255, 0, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 0))


class SeeingModel:
    """``url`` is its address; ``is_typing`` is set once it has asked for its text to be typed."""

    def __init__(self) -> None:
        self.url = ""
        self.is_typing = threading.Event()

    def next_call(self, messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]] | None:
        """What it calls next; None: it is done."""
        functions = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
        done = [(function["name"], json.loads(function["arguments"])) for function in functions]
        if len(done) < len(PREPARED):
            return PREPARED[len(done)]
        if done[-1][0] == "read_file":
            return None
        wanted = self._wanted(messages)
        return WAIT if wanted in done else wanted  # a page that has not drawn yet what was done to it

    def _wanted(self, messages: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        picture = _last_picture(messages)
        if picture is None:
            return "computer", {"action": "screenshot"}
        if _place(picture, YELLOW):
            return "read_file", {"path": "sent.jsonl"}
        if _place(picture, MAGENTA):
            self.is_typing.set()
            return "computer", {"action": "type", "text": NAME}
        for colour in (RED, GREEN, BLUE):
            if place := _place(picture, colour):
                return "computer", {"action": "click", "x": place[0], "y": place[1]}
        return WAIT


@contextmanager
def seeing_model() -> Iterator[SeeingModel]:
    model = SeeingModel()

    class Answers(_Answers):
        seeing = model

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        model.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield model
        finally:
            server.shutdown()
            thread.join()


class _Answers(BaseHTTPRequestHandler):
    seeing: SeeingModel

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.seeing.next_call(request["messages"]) if request.get("tools") else None
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in _chunks(call, len(request["messages"])):
            self.wfile.write(b"data: %s\n\n" % chunk)

    def log_message(self, format: str, *args: Any) -> None:
        """It has nothing to say."""


def _chunks(call: tuple[str, dict[str, Any]] | None, number: int) -> Iterator[bytes]:
    delta: dict[str, Any] = {"role": "assistant", "content": "The form is sent."}
    if call is not None:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        delta = {
            "role": "assistant",
            "tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}],
        }
    for choice in (
        {"index": 0, "delta": delta},
        {"index": 0, "delta": {}, "finish_reason": "stop" if call is None else "tool_calls"},
    ):
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "seeing", "choices": [choice]}
        yield json.dumps(chunk).encode()
    yield b"[DONE]"


def _last_picture(messages: list[dict[str, Any]]) -> Image.Image | None:
    pictures = [
        piece["image_url"]["url"]
        for content in (message["content"] for message in messages if isinstance(message.get("content"), list))
        for piece in content
        if piece["type"] == "image_url"
    ]
    if not pictures:
        return None
    data = base64.b64decode(pictures[-1].partition("base64,")[2])
    return Image.open(io.BytesIO(data)).convert("RGB")


def _place(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int] | None:
    """The middle of what has this colour, if there is enough of it."""
    difference = ImageChops.difference(picture, Image.new("RGB", picture.size, colour)).convert("L")
    mask = difference.point([255] + [0] * 255)
    box = mask.getbbox()
    if box is None or mask.histogram()[255] < PIXELS_MIN:
        return None
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
