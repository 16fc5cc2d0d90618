"""A screen: an X server without a monitor, a window manager, and hands for them.

It is begun with the agent, so that programs find it, and begun again for the next action when it has died. An action
is a program that is run (``xdotool``); then there is a moment for what it caused to be drawn, and a picture of the
screen is its answer. Actions take turns; a mere look waits for none of them. An action that is cancelled ends within
about a second, with no key and no button held down.

A picture has ``LONG_EDGE_MAX`` pixels along its longer edge at most, which is what models look at; a larger screen is
scaled down for it, and the coordinates of actions are those of the picture.

What happens on failure: a program that fails, or takes too long, is the end of the action (``no_desktop``,
``desktop_failed``), not of the screen.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from chatcluster.workspace_wire import (
    BUTTONS,
    DIRECTIONS,
    HELD_DURING,
    NOTCHES_MAX,
    PAUSE_SECONDS_MAX,
    REPEATS_MAX,
    TYPED_CHARACTERS_MAX,
    Code,
    Desktop,
    Screen,
)
from chatcluster.workspaces.agent.keyboard import keys_for, pieces
from chatcluster.workspaces.agent.processes import SERVICE_CALL, Child, Processes
from chatcluster.workspaces.agent.refused import Refused

DISPLAY = ":1"
LONG_EDGE_MAX = 1568
DEPTH = 24
START_SECONDS = 30.0
ACTION_SECONDS = 30.0
SETTLE_SECONDS = 0.3
"""The time for focus and drawing after an action."""
LOOK_SECONDS = 0.02
PICTURE_BYTES_MAX = 8 << 20
XDOTOOL = "xdotool"
KEY_DELAY_MS = 8
HEAR_SECONDS = 0.5
"""The time for programs to hear of new keys; and to have done with what was typed before keys are others."""

_BUTTONS = dict(zip(BUTTONS, "123", strict=True))
_WHEEL = dict(zip(DIRECTIONS, "4567", strict=True))
_KEY = re.compile(r"[A-Za-z0-9_]{1,40}")
_KEYS_MAX = 8
_NAMED_KEYS = (
    *("Return", "Escape", "Tab", "BackSpace", "Delete", "Insert", "Home", "End", "Page_Up", "Page_Down"),
    *("Print", "Pause", "Menu", "Caps_Lock", "Num_Lock", "Scroll_Lock"),
    *(f"F{number}" for number in range(1, 13)),
)
_HELD_KEYS = ("ctrl", "alt", "shift", "super")
_ARROWS = ("Up", "Down", "Left", "Right")
_KEY_NAMES = {
    **{key.casefold().replace("_", ""): key for key in (*_NAMED_KEYS, *_ARROWS)},
    **{f"arrow{key.casefold()}": key for key in _ARROWS},
    **{key: key for key in _HELD_KEYS},
    **dict.fromkeys(("cmd", "command", "meta", "win"), "super"),
    "space": "space",
    "enter": "Return",
    "esc": "Escape",
    "del": "Delete",
    "pgup": "Page_Up",
    "pgdn": "Page_Down",
    "printscreen": "Print",
    "control": "ctrl",
    "option": "alt",
}
"""Keys as people write them, in small letters; the others have the names that X has for them."""
_SOCKETS = Path("/tmp/.X11-unix")


class Screens:
    """The screen of a workspace, ``width`` by ``height``."""

    def __init__(self, processes: Processes, width: int, height: int) -> None:
        self._processes = processes
        self._size = width, height
        self._shown = _fit(width, height)
        self._servers: list[Child] = []
        self._hands = trio.Lock()
        self._eyes = trio.Lock()
        self._beginning = trio.Lock()

    async def begin(self) -> None:
        """Have it before anybody wants it. If it cannot be had, that is told those who want it."""
        with suppress(Refused):
            await self._be_there()

    async def act(self, wanted: Desktop) -> Screen:
        """Carry out an action, and look. Raises ``Refused``."""
        commands = self._commands(wanted)
        async with self._hands:
            await self._be_there()
            if wanted.action == "wait":
                await trio.sleep(wanted.seconds)
            elif commands:
                for arguments in commands:
                    with trio.CancelScope(shield=True):  # cut in its middle it would leave a key held down
                        await self._run(arguments)
                    await trio.lowlevel.checkpoint()
                await trio.sleep(SETTLE_SECONDS)
            return await self.look()

    async def look(self) -> Screen:
        """What is on it. Raises ``Refused``."""
        async with self._eyes:
            await self._be_there()
            return await self._look()

    def _commands(self, wanted: Desktop) -> list[list[str]]:
        """None for what takes no hands."""
        if (make := _ACTIONS.get(wanted.action)) is None:
            raise Refused(Code.INVALID_REQUEST, f"action is one of: {', '.join(_ACTIONS)}")
        commands = make(self, wanted)
        return _holding(wanted, commands) if wanted.hold else commands

    def _at_pointer(self, wanted: Desktop) -> list[str]:
        """The place that is said, or else the one where the pointer is."""
        return [] if wanted.x is None and wanted.y is None else self._at(wanted.x, wanted.y)

    def _at(self, x: int | None, y: int | None) -> list[str]:
        """The place on the screen of a place in the picture."""
        width, height = self._shown
        if x is None or y is None:
            raise Refused(Code.INVALID_REQUEST, "x and y are required")
        if not (0 <= x < width and 0 <= y < height):
            raise Refused(Code.INVALID_REQUEST, f"x and y are within the screenshot, which is {width} by {height}")
        return ["mousemove", str(x * self._size[0] // width), str(y * self._size[1] // height)]

    async def _be_there(self) -> None:
        async with self._beginning:
            if not self._servers or any(child.ended.is_set() for child in self._servers):
                await self._begin_anew()

    async def _begin_anew(self) -> None:
        for child in self._servers:
            self._processes.kill_group(child)
        _clear_away()
        width, height = self._size
        screen = ["Xvfb", DISPLAY, "-screen", "0", f"{width}x{height}x{DEPTH}", "-nolisten", "tcp", "-noreset"]
        self._servers = [self._begin(screen)]
        with trio.move_on_after(START_SECONDS):
            await self._wait_for_server(self._servers[0])
            self._servers.append(self._begin(["openbox"]))
            return
        raise Refused(Code.NO_DESKTOP, "the screen did not begin in time")

    async def _wait_for_server(self, server: Child) -> None:
        while not server.ended.is_set():
            if await self._status(["xdotool", "getmouselocation"]) == 0:
                return
            await trio.sleep(LOOK_SECONDS)
        raise Refused(Code.NO_DESKTOP, f"Xvfb ended ({server.exit_code})")

    async def _look(self) -> Screen:
        directory = Path(os.environ.get("TMPDIR", "/tmp"))
        path, small = directory / ".chatcluster-screen.png", directory / ".chatcluster-screen-thumb.png"
        width, height = self._shown
        is_scaled = self._shown != self._size
        shown = small if is_scaled else path
        _take_away(shown)
        await self._run(["scrot", "--overwrite", *(["--thumb", f"{width}x{height}"] if is_scaled else []), str(path)])
        picture = _picture(shown)
        return Screen(screenshot=picture, mime_type="image/png", width=width, height=height)

    async def _run(self, argv: list[str]) -> None:
        with trio.move_on_after(ACTION_SECONDS):
            if (status := await self._status(argv)) == 0:
                return
            raise Refused(Code.DESKTOP_FAILED, f"{argv[0]} failed ({status})")
        raise Refused(Code.DESKTOP_FAILED, f"{argv[0]} took more than {ACTION_SECONDS:g} seconds")

    async def _status(self, argv: list[str]) -> int | None:
        child = self._begin(argv)
        try:
            await child.ended.wait()
        finally:
            self._processes.kill_group(child)
        return child.exit_code

    def _begin(self, argv: list[str]) -> Child:
        try:
            return self._processes.begin(
                argv,
                directory=b"/",
                environment={**os.environ, "DISPLAY": DISPLAY},
                call=SERVICE_CALL,
                output=subprocess.DEVNULL,
            )
        except OSError as error:
            raise Refused(Code.NO_DESKTOP, f"{argv[0]} cannot be run: {error.strerror}") from None


def _clear_away() -> None:
    """What an X server that was killed has left."""
    try:
        _SOCKETS.mkdir(mode=0o1777, exist_ok=True)
        for path in (_SOCKETS / f"X{DISPLAY[1:]}", Path(f"/tmp/.X{DISPLAY[1:]}-lock")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(Code.NO_DESKTOP, f"{error.filename} is in the way of the screen: {error.strerror}") from None


def _take_away(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(Code.DESKTOP_FAILED, f"{path} is in the way of its pictures: {error.strerror}") from None


def _picture(path: Path) -> bytes:
    """What is read back of it: whatever runs here could have put something else in its place."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(PICTURE_BYTES_MAX + 1)
    except OSError as error:
        raise Refused(Code.DESKTOP_FAILED, f"there is no picture of the screen: {error.strerror}") from None
    if len(content) > PICTURE_BYTES_MAX:
        raise Refused(Code.DESKTOP_FAILED, f"the picture of the screen has more than {PICTURE_BYTES_MAX} bytes")
    return content


def result_of(screen: Screen) -> dict[str, Any]:
    """The screen as the result of a call."""
    values: dict[str, Any] = msgspec.to_builtins(screen)
    return {"screenshot_base64": values.pop("screenshot"), **values}


def _fit(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    if longer <= LONG_EDGE_MAX:
        return width, height
    return max(1, width * LONG_EDGE_MAX // longer), max(1, height * LONG_EDGE_MAX // longer)


def _button(wanted: Desktop) -> str:
    if wanted.button not in BUTTONS:
        raise Refused(Code.INVALID_REQUEST, f"button is one of: {', '.join(BUTTONS)}")
    return _BUTTONS[wanted.button]


def _click(screens: Screens, wanted: Desktop) -> list[list[str]]:
    return [[XDOTOOL, *screens._at_pointer(wanted), "click", _button(wanted)]]


def _clicks(times: int) -> Callable[[Screens, Desktop], list[list[str]]]:
    def click(screens: Screens, wanted: Desktop) -> list[list[str]]:
        place = screens._at_pointer(wanted)
        return [[XDOTOOL, *place, "click", "--repeat", str(times), "--delay", "80", _button(wanted)]]

    return click


def _drag(screens: Screens, wanted: Desktop) -> list[list[str]]:
    begin, end = screens._at(wanted.x, wanted.y), screens._at(wanted.to_x, wanted.to_y)
    middle = [str((int(begin[i]) + int(end[i])) // 2) for i in (1, 2)]
    button, pause = _button(wanted), ["sleep", "0.05"]
    moves = [*pause, "mousemove", *middle, *pause, *end, *pause]
    return [[XDOTOOL, *begin, "mousedown", button, *moves, "mouseup", button]]


def _move(screens: Screens, wanted: Desktop) -> list[list[str]]:
    return [[XDOTOOL, *screens._at(wanted.x, wanted.y)]]


def _scroll(screens: Screens, wanted: Desktop) -> list[list[str]]:
    if wanted.direction not in DIRECTIONS:
        raise Refused(Code.INVALID_REQUEST, f"direction is one of: {', '.join(DIRECTIONS)}")
    if not 0 < wanted.amount <= NOTCHES_MAX:
        raise Refused(Code.INVALID_REQUEST, f"amount is 1 to {NOTCHES_MAX}")
    place = screens._at_pointer(wanted)
    return [[XDOTOOL, *place, "click", "--repeat", str(wanted.amount), "--delay", "20", _WHEEL[wanted.direction]]]


def _holding(wanted: Desktop, commands: list[list[str]]) -> list[list[str]]:
    if wanted.action not in HELD_DURING:
        raise Refused(Code.INVALID_REQUEST, f"hold is for: {', '.join(HELD_DURING)}")
    keys = _keys(wanted.hold)
    return [[program, "keydown", keys, *arguments, "keyup", keys] for program, *arguments in commands]


def _key(_: Screens, wanted: Desktop) -> list[list[str]]:
    if not 0 < wanted.repeat <= REPEATS_MAX:
        raise Refused(Code.INVALID_REQUEST, f"repeat is 1 to {REPEATS_MAX}")
    return [[XDOTOOL, "key", "--clearmodifiers", *[_keys(wanted.text)] * wanted.repeat]]


def _keys(text: str) -> str:
    *held, last = (*text[:-2].split("+"), "+") if text.endswith("++") else (text,) if text == "+" else text.split("+")
    if len(held) >= _KEYS_MAX:
        raise Refused(Code.INVALID_REQUEST, f"text has {_KEYS_MAX} keys at most")
    if held and len(last.strip()) == 1:  # who writes Ctrl+C names a key, and holds no shift
        last = last.lower()
    return "+".join(map(_key_name, (*held, last)))


def _key_name(key: str) -> str:
    key = key.strip() or key
    if (name := _KEY_NAMES.get(key.casefold().replace("_", ""))) is not None:
        return name
    if len(key) == 1 and key.isprintable() and not (key.isascii() and key.isalnum()):
        return f"U{ord(key):04X}"
    if not _KEY.fullmatch(key) or not _is_known(key):
        raise Refused(Code.INVALID_REQUEST, f"{key[:40]!r} is no key; a key is Return, for example, or ctrl+l")
    return key


def _is_known(key: str) -> bool:
    """Whether X has such a key. ``xdotool`` passes over those that are none."""
    if key in _HELD_KEYS:
        return True
    try:
        library = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True  # then nothing can be said
    return bool(library.XStringToKeysym(key.encode()))


def _type(_: Screens, wanted: Desktop) -> list[list[str]]:
    if not 0 < len(wanted.text) <= TYPED_CHARACTERS_MAX or "\0" in wanted.text:
        raise Refused(Code.INVALID_REQUEST, f"text has 1 to {TYPED_CHARACTERS_MAX} characters")
    commands: list[list[str]] = []
    odd = ""
    for piece in pieces(wanted.text.replace("\r\n", "\n").replace("\r", "\n")):
        type_it = ["type", "--clearmodifiers", "--delay", str(KEY_DELAY_MS), "--", piece.text]
        if piece.odd not in ("", odd):
            commands += ([XDOTOOL, "sleep", str(HEAR_SECONDS)] if odd else [], keys_for(odd := piece.odd))
            type_it = ["sleep", str(HEAR_SECONDS), *type_it]
        commands.append([XDOTOOL, *type_it])
    return [command for command in commands if command]


def _wait(_: Screens, wanted: Desktop) -> list[list[str]]:
    if not 0 <= wanted.seconds <= PAUSE_SECONDS_MAX:
        raise Refused(Code.INVALID_REQUEST, f"seconds is 0 to {PAUSE_SECONDS_MAX:g}")
    return []


def _screenshot(_: Screens, __: Desktop) -> list[list[str]]:
    return []


_ACTIONS: dict[str, Callable[[Screens, Desktop], list[list[str]]]] = {
    "screenshot": _screenshot,
    "click": _click,
    "double_click": _clicks(2),
    "triple_click": _clicks(3),
    "drag": _drag,
    "move": _move,
    "scroll": _scroll,
    "key": _key,
    "type": _type,
    "wait": _wait,
}
