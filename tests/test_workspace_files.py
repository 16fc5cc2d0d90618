"""Files of a workspace: whole or not at all, of any name and any bytes, and never without an end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcluster.workspace_wire import (
    FILE_BYTES_MAX,
    INSTRUCTION_BYTES_MAX,
    Code,
    Edit,
    EditFiles,
    FileEdits,
    WriteFile,
)
from chatcluster.workspaces.agent import files
from chatcluster.workspaces.agent.names import Places, raw, shown
from chatcluster.workspaces.agent.refused import Refused
from chatcluster.workspaces.agent.surroundings import instructions


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    return Places(os.fsencode(tmp_path / "home"), os.fsencode(tmp_path / "work"))


@pytest.fixture
def work(places: Places) -> Path:
    return Path(os.fsdecode(places.work))


def edits(path: str, *pairs: tuple[str, str], replace_all: bool = False) -> FileEdits:
    return FileEdits(
        path=path,
        edits=tuple(Edit(search=search, replace=replace, replace_all=replace_all) for search, replace in pairs),
    )


def refused_with(code: Code) -> pytest.RaisesExc[Refused]:
    return pytest.RaisesExc(Refused, check=lambda error: error.code is code)


# --- names --------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name))
def test_every_name_can_be_written_and_read_back(name: bytes) -> None:
    assert raw(shown(name)) == name


def test_names_are_shown_as_the_text_that_they_are() -> None:
    assert shown("straße/日本".encode()) == "straße/日本"
    assert shown(b"a\xffb") == "a\\xffb"
    assert shown(rb"a\xff") == "a\\x5cxff"
    assert shown(rb"C:\xylophone") == "C:\\xylophone"


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800", "x" * 5000], ids=["empty", "zero", "surrogate", "long"])
def test_what_can_be_no_path_is_refused(places: Places, path: str) -> None:
    with refused_with(Code.INVALID_PATH):
        files.read(places, path, 0, 10)


def test_a_path_starts_at_the_working_directory_at_home_or_at_the_top(places: Places, work: Path) -> None:
    for path, place in (("a/b", work / "a/b"), ("~/c", work.parent / "home/c"), (f"{work}/d", work / "d")):
        files.write(places, WriteFile(path=path, content="x"))
        assert place.read_text() == "x"


# --- reading ------------------------------------------------------------------------------------


def test_a_file_is_read_from_any_byte_on_with_its_size(places: Places, work: Path) -> None:
    (work / "a").write_bytes(b"0123456789")
    answer = files.read(places, "a", 3, 4)
    assert (answer.content, answer.offset, answer.size_bytes, answer.is_binary) == (b"3456", 3, 10, False)
    beyond = files.read(places, "a", 50, 4)
    assert (beyond.content, beyond.offset, beyond.size_bytes) == (b"", 50, 10)


@pytest.mark.parametrize(
    ("content", "is_binary"),
    [(b"", False), ("é日𝄞".encode(), False), (b"\x89PNG\r\n\x1a\n\0", True), (b"a\xffb", True), (b"a\0b", True)],
)
def test_what_is_no_text_is_told(places: Places, work: Path, content: bytes, is_binary: bool) -> None:
    (work / "a").write_bytes(content)
    assert files.read(places, "a", 0, 100).is_binary is is_binary


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize("limit", range(1, 10))
def test_a_piece_of_text_is_text_wherever_it_is_cut(places: Places, work: Path, offset: int, limit: int) -> None:
    (work / "a").write_bytes("é日𝄞x".encode())
    assert not files.read(places, "a", offset, limit).is_binary


def test_what_has_no_end_or_is_no_file_is_not_read(places: Places, work: Path) -> None:
    os.mkfifo(work / "pipe")
    (work / "loop").symlink_to("loop")
    (work / "zero").symlink_to("/dev/zero")
    for path, code in (
        ("pipe", Code.NOT_A_FILE),
        (".", Code.NOT_A_FILE),
        ("zero", Code.NOT_A_FILE),
        ("loop", Code.INVALID_PATH),
        ("nothing", Code.FILE_NOT_FOUND),
        ("x" * 300, Code.INVALID_PATH),
    ):
        with refused_with(code):
            files.read(places, path, 0, 10)


def test_who_waits_to_write_into_a_pipe_does_not_take_this_for_its_reader(
    places: Places, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(work / "pipe")
    opened: list[int] = []
    real = os.open

    def noted(path: bytes, flags: int) -> int:
        opened.append(flags)
        return real(path, flags)

    monkeypatch.setattr(os, "open", noted)
    with refused_with(Code.NOT_A_FILE):
        files.read(places, "pipe", 0, 10)
    assert opened
    assert all(flags & os.O_PATH for flags in opened)


def test_of_a_file_whose_size_nobody_knows_it_is_told_that_there_is_more(places: Places) -> None:
    whole = Path("/proc/filesystems").read_bytes()
    first = files.read(places, "/proc/filesystems", 0, 10)
    assert (first.content, first.size_bytes > 10) == (whole[:10], True)
    rest = files.read(places, "/proc/filesystems", 10, len(whole))
    assert (first.content + rest.content, rest.size_bytes) == (whole, len(whole))


def test_a_read_has_an_end(places: Places, work: Path) -> None:
    with (work / "a").open("wb") as file:
        file.truncate(1 << 40)
    answer = files.read(places, "a", 0, 1 << 50)
    assert (len(answer.content), answer.size_bytes) == (FILE_BYTES_MAX, 1 << 40)


# --- writing ------------------------------------------------------------------------------------


def test_a_file_is_written_with_the_directories_on_its_way(places: Places, work: Path) -> None:
    made = files.write(places, WriteFile(path="a/b/c.txt", content="é"))
    assert made == {"path": str(work / "a/b/c.txt"), "bytes": 2, "created": True}
    again = files.write(places, WriteFile(path="a/b/c.txt", content_base64=b"\0\xff"))
    assert again["created"] is False
    assert (work / "a/b/c.txt").read_bytes() == b"\0\xff"
    assert os.listdir(work / "a/b") == ["c.txt"]


def test_what_is_written_keeps_its_mode_and_is_executable_if_it_was(places: Places, work: Path) -> None:
    (work / "run").write_text("old")
    (work / "run").chmod(0o750)
    files.write(places, WriteFile(path="run", content="new"))
    assert stat.S_IMODE((work / "run").stat().st_mode) == 0o750


def test_a_link_stays_and_what_it_leads_to_is_written(places: Places, work: Path) -> None:
    (work / "real").write_text("old")
    (work / "link").symlink_to("real")
    files.write(places, WriteFile(path="link", content="new"))
    assert (work / "link").is_symlink()
    assert (work / "real").read_text() == "new"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (WriteFile(path="a"), Code.INVALID_REQUEST),
        (WriteFile(path="a", content="", content_base64=b""), Code.INVALID_REQUEST),
        (WriteFile(path="a", content_base64=bytes(FILE_BYTES_MAX + 1)), Code.TOO_LARGE),
        (WriteFile(path=".", content="x"), Code.NOT_A_FILE),
        (WriteFile(path="new/", content="x"), Code.NOT_A_FILE),
        (WriteFile(path="pipe", content="x"), Code.NOT_A_FILE),
        (WriteFile(path="file/below", content="x"), Code.INVALID_PATH),
        (WriteFile(path="file/.", content="x"), Code.INVALID_PATH),
        (WriteFile(path="/proc/version", content="x"), Code.NOT_ALLOWED),
    ],
    ids=[
        "nothing",
        "two contents",
        "too large",
        "directory",
        "slash",
        "pipe",
        "below a file",
        "in a file",
        "read only",
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    places: Places, work: Path, wanted: WriteFile, code: Code
) -> None:
    os.mkfifo(work / "pipe")
    (work / "file").write_text("x")
    if wanted.path.startswith("/proc"):
        code = Code.FILE_NOT_FOUND if os.geteuid() == 0 else code  # nothing can be made beside it
    with refused_with(code):
        files.write(places, wanted)
    assert sorted(os.listdir(work)) == ["file", "pipe"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_file_that_somebody_closed_is_not_replaced(places: Places, work: Path) -> None:
    (work / "closed").write_text("old")
    (work / "closed").chmod(0o444)
    with refused_with(Code.NOT_ALLOWED):
        files.write(places, WriteFile(path="closed", content="new"))
    with refused_with(Code.NOT_ALLOWED):
        files.edit(places, EditFiles(files=(FileEdits(path="closed", edits=(Edit(search="old", replace="new"),)),)))
    assert (work / "closed").read_text() == "old"


# --- editing ------------------------------------------------------------------------------------


def test_edits_are_made_in_their_order_in_all_files(places: Places, work: Path) -> None:
    (work / "a").write_text("one two")
    (work / "b").write_text("x x x")
    done = files.edit(
        places,
        EditFiles(files=(edits("a", ("one", "two!"), ("two! ", "three ")), edits("b", ("x", "y"), replace_all=True))),
    )
    assert (work / "a").read_text() == "three two"
    assert (work / "b").read_text() == "y y y"
    assert [file["replaced"] for file in done["files"]] == [2, 3]


def test_a_file_that_is_named_twice_has_the_edits_of_both(places: Places, work: Path) -> None:
    (work / "a").write_text("one")
    files.edit(places, EditFiles(files=(edits("a", ("one", "two")), edits("./a", ("two", "three")))))
    assert (work / "a").read_text() == "three"


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (edits("b", ("absent", "x")), Code.NO_MATCH),
        (edits("b", ("t", "x")), Code.NOT_UNIQUE),
        (edits("overlaps", ("aba", "x")), Code.NOT_UNIQUE),
        (edits("b", ("", "x")), Code.INVALID_REQUEST),
        (edits("b"), Code.INVALID_REQUEST),
        (edits("nothing", ("a", "x")), Code.FILE_NOT_FOUND),
        (edits("binary", ("a", "x")), Code.NOT_TEXT),
        (edits("large", ("a", "x")), Code.TOO_LARGE),
        (edits("b", ("t", "x" * (6 << 20)), replace_all=True), Code.TOO_LARGE),
        (edits("b", *[("t", "t")] * 101), Code.TOO_MANY),
    ],
    ids=["absent", "twice", "within itself", "empty search", "no edits", "no file", "binary", "large", "grows", "many"],
)
def test_if_one_edit_cannot_be_made_none_is(places: Places, work: Path, second: FileEdits, code: Code) -> None:
    contents = {"a": b"one", "b": b"two t", "overlaps": b"ababa", "binary": b"a\0", "large": bytes(FILE_BYTES_MAX + 1)}
    for name, content in contents.items():
        (work / name).write_bytes(content)
    with refused_with(code):
        files.edit(places, EditFiles(files=(edits("a", ("one", "new")), second)))
    assert {path.name: path.read_bytes() for path in work.iterdir()} == contents


def test_who_edits_a_file_whose_lines_end_as_on_windows_is_told_so(places: Places, work: Path) -> None:
    (work / "a").write_bytes(b"one\r\ntwo\r\n")
    with pytest.raises(Refused, match=r"end in \\r\\n"):
        files.edit(places, EditFiles(files=(edits("a", ("one\ntwo", "three")),)))
    files.edit(places, EditFiles(files=(edits("a", ("one\r\ntwo", "three")),)))
    assert (work / "a").read_bytes() == b"three\r\n"


def test_what_is_edited_at_a_time_is_bounded_as_the_agent_has_it_in_memory(places: Places, work: Path) -> None:
    for name in ("a", "b", "c"):
        (work / name).write_bytes(b"one" + b"x" * (8 << 20))
    two, three = (EditFiles(files=tuple(edits(name, ("one", "two")) for name in names)) for names in ("ab", "abc"))
    with refused_with(Code.TOO_LARGE):
        files.edit(places, three)
    assert (work / "a").read_bytes().startswith(b"one")
    with refused_with(Code.TOO_LARGE):
        files.edit(places, two)
    files.edit(places, EditFiles(files=(edits("a", ("one", "two")),)))
    assert (work / "a").read_bytes().startswith(b"two")


def test_no_files_are_no_edits(places: Places) -> None:
    with pytest.raises(Refused, match="files is required"):
        files.edit(places, EditFiles(files=()))


# --- instructions ---------------------------------------------------------------------------------


def test_the_place_is_told_also_where_nobody_wrote_instructions(places: Places, work: Path) -> None:
    answer = instructions(places, "")
    assert (answer.directory, answer.files) == (str(work), ())
    assert os.uname().machine in answer.os


def test_instructions_of_home_come_before_those_of_the_directory(places: Places, work: Path) -> None:
    (work.parent / "home/AGENTS.md").write_text("of home")
    (work / "AGENTS.md").write_text("of work")
    (work / "sub").mkdir()
    assert [file.content for file in instructions(places, "").files] == ["of home", "of work"]
    assert [file.content for file in instructions(places, "sub").files] == ["of home"]


def test_long_instructions_are_cut_and_that_is_told(places: Places, work: Path) -> None:
    (work / "AGENTS.md").write_bytes(b"\xff" + b"x" * INSTRUCTION_BYTES_MAX)
    (file,) = instructions(places, "").files
    assert file.is_truncated
    assert file.size_bytes == INSTRUCTION_BYTES_MAX + 1
    assert file.content.startswith("\ufffdx")


def test_instructions_that_cannot_be_read_are_none(places: Places, work: Path) -> None:
    os.mkfifo(work / "AGENTS.md")
    (work.parent / "home/AGENTS.md").symlink_to("/dev/zero")
    assert instructions(places, "").files == ()
