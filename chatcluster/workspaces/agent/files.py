"""Files of the workspace: read, written, edited, as what runs in the sandbox could do it.

Links are followed by the operating system, which has only the sandbox to follow them in. A file is put in its place
whole: it is written beside it, and renamed. Several are edited all or none: all are written before one is renamed. What
is the agent's own is neither read nor written: its directory, and what the kernel tells of its process. Nothing but a
regular file is opened: a pipe or a device would have no end, and a program that waits at the other end of a pipe would
take this for its reader.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from chatcluster.workspace_wire import FILE_BYTES_MAX, Code, Edit, EditFiles, FileAnswer, FileEdits, WriteFile
from chatcluster.workspaces.agent.names import OWN, Places, resolved, shown
from chatcluster.workspaces.agent.refused import Refused, of_file

EDITS_MAX = 100
FILES_MAX = 100
EDITED_BYTES_MAX = FILE_BYTES_MAX + (6 << 20)
"""Of all files that are edited at a time: the agent has them in memory, and does nothing else meanwhile."""
CHARACTER_BYTES_MAX = 4
NEW_FILE_MODE = 0o644
_CONTINUATION = bytes(range(0x80, 0xC0))


def read(places: Places, path: str, offset: int, limit: int) -> FileAnswer:
    """A piece of a file. Raises ``Refused``."""
    found = places.find(path)
    descriptor, status = _open(places, found, path)
    try:
        limit = min(limit, FILE_BYTES_MAX)
        content = _read(descriptor, offset, limit + 1)  # what comes behind it says that it is not the end
    except OSError as error:
        raise of_file(error, path) from None
    finally:
        os.close(descriptor)
    size = max(status.st_size, offset + len(content) if content else 0)  # files of /proc have none
    content = content[:limit]
    return FileAnswer(
        path=shown(found), content=content, offset=offset, size_bytes=size, is_binary=not _is_text(content)
    )


def write(places: Places, wanted: WriteFile) -> dict[str, Any]:
    """Put a file in its place. Raises ``Refused``."""
    content = _content_of(wanted)
    target = _target(places, wanted.path)
    is_new = not os.path.lexists(target)
    try:
        _make_directories(os.path.dirname(target))
        _Replacement(places, target, content).put()
    except OSError as error:
        raise of_file(error, wanted.path) from None
    return {"path": shown(target), "bytes": len(content), "created": is_new}


def edit(places: Places, wanted: EditFiles) -> dict[str, Any]:
    """Carry out all edits. Raises ``Refused`` if one of them cannot be; then no file has changed."""
    if not wanted.files:
        raise Refused(Code.INVALID_REQUEST, "files is required")
    if len(wanted.files) > FILES_MAX:
        raise Refused(Code.TOO_MANY, f"more than {FILES_MAX} files at a time are not edited")
    edited: dict[bytes, tuple[str, bytes, int]] = {}
    size = 0
    for file in wanted.files:
        target = _target(places, file.path)
        before = edited[target] if target in edited else (file.path, _whole(places, target, file.path), 0)
        content, replaced = _edited(before[1], file)
        size += max(len(before[1]), len(content))
        if size > EDITED_BYTES_MAX:
            words = f"{file.path}: with it the files have more than {EDITED_BYTES_MAX} bytes: edit fewer at a time"
            raise Refused(Code.TOO_LARGE, words)
        edited[target] = file.path, content, before[2] + replaced
    _put_all(places, [(target, path, content) for target, (path, content, _) in edited.items()])
    return {
        "files": [
            {"path": shown(target), "bytes": len(content), "replaced": replaced}
            for target, (_, content, replaced) in edited.items()
        ]
    }


def _make_directories(path: bytes) -> None:
    """One after the other: as deep as a path may be, a function that calls itself is not."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with suppress(FileExistsError):  # somebody else made it, or it is no directory: what comes next finds out
            os.mkdir(directory)


class _Replacement:
    """A file beside the one whose place it will take, with the same mode. Raises ``OSError``.

    Its directory is held open: whatever becomes of the way there, it is the one that was looked at.
    """

    def __init__(self, places: Places, target: bytes, content: bytes) -> None:
        self._name = os.path.basename(target)
        self._new = f".chatcluster-{secrets.token_hex(8)}".encode()
        if 0 < places.file_bytes_max < len(content):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._directory = os.open(os.path.dirname(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            places.check_open(self._directory)
            self._write(content)
        except BaseException:
            os.close(self._directory)
            raise

    def put(self) -> None:
        try:
            os.rename(self._new, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:
            self.drop()
            raise
        os.close(self._directory)

    def drop(self) -> None:
        os.unlink(self._new, dir_fd=self._directory)
        os.close(self._directory)

    def _write(self, content: bytes) -> None:
        mode = self._mode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._new, flags, 0o600, dir_fd=self._directory)
        try:
            _write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        except BaseException:
            os.unlink(self._new, dir_fd=self._directory)
            raise
        finally:
            os.close(descriptor)

    def _mode(self) -> int:
        try:
            return stat.S_IMODE(os.stat(self._name, dir_fd=self._directory).st_mode)
        except FileNotFoundError:
            return NEW_FILE_MODE


def _put_all(places: Places, files: list[tuple[bytes, str, bytes]]) -> None:
    replacements: list[tuple[str, _Replacement]] = []
    try:
        for target, path, content in files:
            replacements.append((path, _Replacement(places, target, content)))
        while replacements:
            path, replacement = replacements.pop(0)
            replacement.put()
    except OSError as error:
        for _, left in replacements:
            left.drop()
        raise of_file(error, path) from None


def _edited(content: bytes, file: FileEdits) -> tuple[bytes, int]:
    """The content after all edits of a file, and how many places they changed."""
    if not file.edits:
        raise Refused(Code.INVALID_REQUEST, f"{file.path}: edits is required")
    if len(file.edits) > EDITS_MAX:
        raise Refused(Code.TOO_MANY, f"{file.path}: more than {EDITS_MAX} edits at a time are not made")
    if not _is_text(content):
        raise Refused(Code.NOT_TEXT, f"{file.path} is binary: write it anew, or change it by a command")
    replaced = 0
    for number, wanted in enumerate(file.edits, start=1):
        content, count = _replaced(content, wanted, f"{file.path}: edit {number}")
        replaced += count
        if len(content) > FILE_BYTES_MAX:
            raise Refused(Code.TOO_LARGE, f"{file.path} would have more than {FILE_BYTES_MAX} bytes")
    return content, replaced


def _replaced(content: bytes, wanted: Edit, where: str) -> tuple[bytes, int]:
    search, replace = wanted.search.encode(), wanted.replace.encode()
    if not search:
        raise Refused(Code.INVALID_REQUEST, f"{where}: search is empty")
    count = content.count(search)
    if count == 0:
        raise Refused(Code.NO_MATCH, f"{where}: its search text is not in the file; {_hint(content, search)}")
    if not wanted.replace_all and (places := count if count > 1 else _overlapping(content, search)) > 1:
        raise Refused(Code.NOT_UNIQUE, f"{where}: its search text is there {places} times; give more of what is around")
    if len(content) + count * (len(replace) - len(search)) > FILE_BYTES_MAX:
        raise Refused(Code.TOO_LARGE, f"{where}: the file would have more than {FILE_BYTES_MAX} bytes")
    return content.replace(search, replace), count


def _hint(content: bytes, search: bytes) -> str:
    """What to do about a text that is not there."""
    if b"\n" in search and search.replace(b"\n", b"\r\n") in content:
        return "the lines of this file end in \\r\\n, so those of the text have to as well"
    return "read the file again"


def _overlapping(content: bytes, search: bytes) -> int:
    """In how many places it is, two at most, where one may begin within the other: ``aa`` is twice in ``aaa``."""
    return 1 if content.find(search, content.find(search) + 1) < 0 else 2


def _content_of(wanted: WriteFile) -> bytes:
    if (wanted.content is None) == (wanted.content_base64 is None):
        raise Refused(Code.INVALID_REQUEST, "either content or content_base64 is required")
    content = wanted.content.encode() if wanted.content is not None else wanted.content_base64 or b""
    if len(content) > FILE_BYTES_MAX:
        raise Refused(Code.TOO_LARGE, f"{wanted.path}: a file has {FILE_BYTES_MAX} bytes at most here")
    return content


def _target(places: Places, path: str) -> bytes:
    """What a path leads to: the file behind a link is what is replaced, and not the link."""
    found = places.find(path)
    if found.endswith(b"/"):
        raise Refused(Code.NOT_A_FILE, f"{path} is the path of a directory")
    try:
        target = resolved(found)
        places.check(target)
        if not _leads_to(found, target):
            raise PermissionError(errno.EACCES, OWN)
    except OSError as error:
        raise of_file(error, path) from None
    if not os.path.lexists(target):
        return target
    if not stat.S_ISREG(_asked(os.lstat, target, path).st_mode):
        raise Refused(Code.NOT_A_FILE, f"{path} is not a regular file")
    if not os.access(target, os.W_OK):  # it could be replaced all the same, but somebody has closed it
        raise Refused(Code.NOT_ALLOWED, f"{path} is read-only: make it writable first, if it is to change")
    return target


def _leads_to(found: bytes, target: bytes) -> bool:
    """What the kernel tells of an open file may be a path of this machine, outside of the sandbox: ``/dev/stdout``.
    Raises ``OSError`` where a file is taken for a directory."""
    try:
        there = os.stat(found)
    except NotADirectoryError:
        raise
    except OSError:
        return True  # nothing is there yet, or nothing that may be looked at
    return os.path.lexists(target) and os.path.samestat(there, os.stat(target))


def _asked(ask: Callable[[bytes], os.stat_result], found: bytes, path: str) -> os.stat_result:
    try:
        return ask(found)
    except OSError as error:
        raise of_file(error, path) from None


def _whole(places: Places, target: bytes, path: str) -> bytes:
    descriptor, status = _open(places, target, path)
    try:
        if status.st_size > FILE_BYTES_MAX:
            raise Refused(Code.TOO_LARGE, f"{path} has more than {FILE_BYTES_MAX} bytes: change it by a command")
        return _read(descriptor, 0, FILE_BYTES_MAX)
    except OSError as error:
        raise of_file(error, path) from None
    finally:
        os.close(descriptor)


def _open(places: Places, found: bytes, path: str) -> tuple[int, os.stat_result]:
    """A regular file, for reading."""
    try:
        there = os.open(found, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise of_file(error, path) from None
    try:
        status = os.fstat(there)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise Refused(Code.NOT_A_FILE, f"{path} is {kind}")
        places.check_open(there)
        return os.open(f"/proc/self/fd/{there}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), status
    except OSError as error:
        raise of_file(error, path) from None
    finally:
        os.close(there)


def _read(descriptor: int, offset: int, limit: int) -> bytes:
    pieces = []
    while limit > 0 and (piece := os.pread(descriptor, limit, offset)):
        pieces.append(piece)
        offset += len(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _is_text(content: bytes) -> bool:
    """UTF-8 without a zero byte. A piece may begin and end within a character."""
    head = content[: CHARACTER_BYTES_MAX - 1]
    begin = len(head) - len(head.lstrip(_CONTINUATION))
    try:
        content[begin:].decode()
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data" and len(content) - begin - error.start < CHARACTER_BYTES_MAX
        return is_cut and b"\0" not in content
    return b"\0" not in content
