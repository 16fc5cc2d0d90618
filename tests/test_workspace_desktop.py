"""The screen of a workspace: seen by pictures, worked with by hand, a real browser under it."""

from __future__ import annotations

import base64
import itertools
import shutil
import struct
from typing import Any

import pytest
import trio
from agent_process import ended, execute, ran, request
from sandbox_world import needs_sandboxes

from chatcluster.ports.workspace import WorkspaceLimits, WorkspaceSpec
from chatcluster.workspace_errors import WorkspaceRefused
from chatcluster.workspace_wire import CallAnswer, CallState, Kind
from chatcluster.workspaces.agent_client import AgentClient, over_unix
from chatcluster.workspaces.process_provider import ProcessProvider

PROGRAMS = ("Xvfb", "openbox", "xdotool", "scrot")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]

pytest_plugins = ["sandbox_fixtures"]
pytestmark = [
    needs_sandboxes,
    pytest.mark.skipif(bool(MISSING), reason=f"a desktop needs {', '.join(MISSING)}"),
]
needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")

FORM = """<!DOCTYPE html><title>empty</title>
<style>body {margin: 0; height: 3000px} form > * {position: fixed; left: 100px; width: 300px; height: 60px}</style>
<form onsubmit="told.push('sent'); tell(); return false">
<input id=name style="top: 100px">
<input id=agreed type=checkbox style="top: 200px">
<input id=amount type=range min=0 max=100 value=0 style="top: 300px">
<p id=twice style="top: 400px">twice</p>
<button style="top: 500px">Send</button>
</form>
<script>
const told = [];
const tell = () => { document.title = ['told', name_.value, agreed.checked, +amount.value > 50, ...told].join(' ') };
const name_ = document.getElementById('name');
twice.ondblclick = () => told.push('twice');
document.onscroll = () => { if (!told.includes('scrolled')) told.push('scrolled') };
</script>"""

KEYS_DOWN = """
import ctypes
library = ctypes.CDLL("libX11.so.6")
library.XOpenDisplay.restype = ctypes.c_void_p
keys = ctypes.create_string_buffer(32)
library.XQueryKeymap(ctypes.c_void_p(library.XOpenDisplay(None)), keys)
print(any(keys.raw))
"""

_numbers = itertools.count(1)


def spec_of(width: int = 1280, height: int = 800, *, desktop: bool = True) -> WorkspaceSpec:
    limits = WorkspaceLimits(disk_bytes=1 << 30)
    return WorkspaceSpec(workspace_id="one", owner_id="owner", limits=limits, desktop=desktop, screen=(width, height))


@pytest.fixture
async def inside(provider: ProcessProvider) -> AgentClient:
    await provider.start(spec_of())
    return over_unix(provider.socket_path("one"))


async def did(inside: AgentClient, action: str, **values: Any) -> CallAnswer:
    """An action, carried out under an ID of its own."""
    call_id = f"did-{next(_numbers)}"
    answer = await inside.put(call_id, request(Kind.DESKTOP, action=action, **values))
    return answer if answer.state.ended else await ended(inside, call_id)


def size_of(answer: CallAnswer) -> tuple[int, int]:
    """Of the picture itself."""
    picture = base64.b64decode(answer.result["screenshot_base64"])
    assert picture.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


async def place_of_the_mouse(inside: AgentClient) -> tuple[int, int]:
    said = (await ran(inside, "xdotool getmouselocation --shell")).output.decode()
    values = dict(line.split("=") for line in said.split())
    return int(values["X"]), int(values["Y"])


async def test_each_action_is_answered_by_a_picture(inside: AgentClient) -> None:
    for action, values in (
        ("screenshot", {}),
        ("move", {"x": 10, "y": 20}),
        ("click", {"x": 640, "y": 400, "button": "left"}),
        ("click", {}),
        ("triple_click", {"x": 640, "y": 400, "hold": "ctrl+shift"}),
        ("scroll", {"amount": 1, "hold": "Ctrl"}),
        ("key", {"text": "Escape", "repeat": 3}),
        ("wait", {"seconds": 0.1}),
    ):
        answer = await did(inside, action, **values)
        assert answer.state is CallState.EXITED, answer.error
        assert (answer.result["mime_type"], answer.result["width"], answer.result["height"]) == ("image/png", 1280, 800)
        assert size_of(answer) == (1280, 800)
    assert (await inside.screen()).screenshot.startswith(b"\x89PNG")


@pytest.mark.parametrize(("width", "height", "shown"), [(2000, 1000, (1568, 784)), (1000, 2000, (784, 1568))])
async def test_a_large_screen_is_scaled_and_so_are_the_coordinates(
    provider: ProcessProvider, width: int, height: int, shown: tuple[int, int]
) -> None:
    await provider.start(spec_of(width, height))
    inside = over_unix(provider.socket_path("one"))
    answer = await did(inside, "move", x=shown[0] // 2, y=shown[1] - 1)
    assert size_of(answer) == (answer.result["width"], answer.result["height"]) == shown
    assert await place_of_the_mouse(inside) == (shown[0] // 2 * width // shown[0], (shown[1] - 1) * height // shown[1])


@pytest.mark.parametrize(
    ("action", "values"),
    [
        ("dance", {}),
        ("click", {"x": 1}),
        ("click", {"x": 1280, "y": 0}),
        ("click", {"x": -1, "y": 0}),
        ("click", {"x": 1, "y": 1, "button": "fourth"}),
        ("drag", {"x": 1, "y": 1}),
        ("scroll", {"x": 1, "y": 1, "direction": "in"}),
        ("scroll", {"x": 1, "y": 1, "amount": 1000}),
        ("triple_click", {"y": 1}),
        ("click", {"x": 1, "y": 1, "hold": "ctrl;x"}),
        ("move", {"x": 1, "y": 1, "hold": "ctrl"}),
        ("key", {"text": "Tab", "repeat": 0}),
        ("key", {"text": "a; touch x"}),
        ("key", {"text": "Foo"}),
        ("key", {"text": "ctrl+"}),
        ("key", {"text": "+".join("abcdefghi")}),
        ("type", {"text": ""}),
        ("type", {"text": "x" * 2001}),
        ("wait", {"seconds": 3600}),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_cannot_be_done_is_told(inside: AgentClient, action: str, values: dict[str, Any]) -> None:
    answer = await did(inside, action, **values)
    assert answer.state is CallState.FAILED
    assert answer.error is not None
    assert answer.error.startswith("invalid_request")


async def test_keys_have_the_names_that_people_give_them(inside: AgentClient) -> None:
    for key in ("Enter", "PAGE_DOWN", "ArrowUp", "ctrl+shift+t", "Control+A", "/", "ctrl++", "+", "é", "F5", "cmd+Esc"):
        answer = await did(inside, "key", text=key)
        assert answer.state is CallState.EXITED, (key, answer.error)


async def test_who_looks_on_waits_for_no_action(inside: AgentClient) -> None:
    await inside.screen()  # it has begun, which takes a while
    await inside.put("slow", request(Kind.DESKTOP, action="wait", seconds=10))
    with trio.fail_after(60):
        assert (await inside.screen()).screenshot.startswith(b"\x89PNG")
    assert (await inside.call("slow")).state is CallState.RUNNING


async def test_a_cancel_ends_typing_soon_with_no_key_held_down(inside: AgentClient) -> None:
    await ran(inside, "touch typed")
    await inside.put("a", request(Kind.DESKTOP, action="type", text="é" * 2000))
    with trio.fail_after(60):
        assert (await inside.cancel("a", 1)).state is CallState.KILLED
    assert (await ran(inside, f"python3 -c {shell_quoted(KEYS_DOWN)}")).output == b"False\n"


async def test_the_screen_is_there_before_anybody_uses_it(inside: AgentClient) -> None:
    look = "until xdotool getmouselocation >/dev/null 2>&1; do sleep 0.05; done"
    assert (await ran(inside, f"timeout 100 sh -c {shell_quoted(look)}")).exit_code == 0


async def test_a_picture_is_read_back_from_nowhere_else(inside: AgentClient) -> None:
    await ran(inside, "ln -sf /etc/passwd /tmp/.chatcluster-screen.png")
    assert (await inside.screen()).screenshot.startswith(b"\x89PNG")
    await ran(inside, "rm /tmp/.chatcluster-screen.png; mkdir /tmp/.chatcluster-screen.png")
    with pytest.raises(WorkspaceRefused, match="in the way"):
        await inside.screen()


async def test_a_workspace_without_a_desktop_says_so(provider: ProcessProvider) -> None:
    await provider.start(spec_of(desktop=False))
    inside = over_unix(provider.socket_path("one"))
    answer = await did(inside, "screenshot")
    assert (answer.error or "").startswith("no_desktop")
    with pytest.raises(WorkspaceRefused):
        await inside.screen()


async def test_a_screen_that_died_begins_again(inside: AgentClient) -> None:
    await did(inside, "screenshot")
    find = "pid=$(grep -l ^Xvfb /proc/[0-9]*/cmdline | cut -d/ -f3)"
    await ran(inside, f"{find}; kill -9 $pid; while kill -0 $pid 2>/dev/null; do sleep 0.02; done")
    assert (await did(inside, "screenshot")).state is CallState.EXITED


async def test_an_action_is_cancelled_and_a_kill_in_the_middle_is_told(provider: ProcessProvider) -> None:
    await provider.start(spec_of())
    inside = over_unix(provider.socket_path("one"))
    await inside.put("a", request(Kind.DESKTOP, action="wait", seconds=10))
    assert [one.call_id for one in await inside.under_way()] == ["a"], "its host sees that somebody waits for it"
    assert (await inside.cancel("a", 1)).error == "it was cancelled"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inside.put, "b", request(Kind.DESKTOP, action="wait", seconds=10))
        await trio.testing.wait_all_tasks_blocked()
    provider._sandboxes["one"].process.kill()
    with trio.fail_after(60):
        while (await provider.status("one")).state == "running":
            await trio.lowlevel.checkpoint()
    await provider.start(spec_of())
    answer = await inside.put("b", request(Kind.DESKTOP, action="wait", seconds=10))
    assert (answer.state, answer.error) == (CallState.KILLED, "the workspace ended while it ran")


@needs_browser
async def test_characters_that_no_key_has_are_typed_as_they_are(inside: AgentClient) -> None:
    page = "<!DOCTYPE html><meta charset=utf-8><title>empty</title><input autofocus oninput='document.title=value'>"
    await inside.put("w", request(Kind.WRITE_FILE, path="page.html", content=page))
    await inside.put(
        "c", execute("chromium --kiosk --user-data-dir=/tmp/c file:///workspace/page.html", background=True)
    )
    await window(inside, "empty")
    text = "é" * 20 + "aé" * 10 + "Привет, мир, 你好" + "".join(map(chr, range(0x100, 0x170)))
    await did(inside, "type", text=text)
    await window(inside, text)


@needs_browser
async def test_a_form_is_filled_in_in_a_real_browser(inside: AgentClient) -> None:
    await inside.put("w", request(Kind.WRITE_FILE, path="form.html", content=FORM))
    await did(inside, "screenshot")
    await inside.put(
        "c", execute("chromium --kiosk --user-data-dir=/tmp/c file:///workspace/form.html", background=True)
    )
    await window(inside, "empty")
    await did(inside, "click", x=250, y=130)
    await did(inside, "type", text="Ada Lovelace é")
    await did(inside, "click", x=250, y=230)
    await did(inside, "drag", x=108, y=330, to_x=380, to_y=330)
    await did(inside, "double_click", x=120, y=430)
    await did(inside, "scroll", x=700, y=600, direction="down", amount=5)
    await did(inside, "click", x=250, y=530)
    await window(inside, "told Ada Lovelace é true true twice scrolled sent")


async def window(inside: AgentClient, title: str) -> None:
    """Until the page says so."""
    look = f"until xdotool search --name '^{title}' >/dev/null 2>&1; do sleep 0.1; done"
    assert (await ran(inside, f"timeout 150 sh -c {shell_quoted(look)}")).exit_code == 0, (
        await ran(inside, "xdotool search --name . getwindowname %@")
    ).output.decode()


def shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
