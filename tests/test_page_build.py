"""site/build.py: what is built when, with which Node, and how large it may be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

import pytest

T = TypeVar("T")
SCRIPT = Path(__file__).parent.parent / "site" / "build.py"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, at work in an empty folder."""
    module = load(SCRIPT)
    for name, folder in (("SITE", "site"), ("WORK", "site/.build"), ("STATIC", "static")):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setattr(module, name, tmp_path / folder)
    monkeypatch.setattr(module, "STAMP", tmp_path / "site" / ".build" / "stamp")
    return module


def page(folder: Path, script: bytes) -> Path:
    (folder / "assets").mkdir()
    (folder / "assets" / "index-1.js").write_bytes(script)
    (folder / "index.html").write_text('<script type="module" src="/assets/index-1.js"></script>')
    return folder


def test_the_digest_follows_names_and_contents_of_the_sources(build: ModuleType) -> None:
    source = build.SITE / "src"
    source.mkdir()
    digests = [build.digest()]
    (source / "a.ts").write_text("1")
    digests.append(build.digest())
    (source / "a.ts").write_text("2")
    digests.append(build.digest())
    (source / "a.ts").rename(source / "b.ts")
    digests.append(build.digest())
    (build.SITE / "node_modules").mkdir()
    assert build.digest() == digests[-1]
    assert len(set(digests)) == 4


def test_a_page_that_is_built_is_not_built_again(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    page(build.STATIC, b"")
    build.STAMP.write_text(build.digest())
    monkeypatch.setattr(build, "prepared_node", lambda: pytest.fail("it was built"))
    build.build()


def test_what_the_page_is_checked_with_is_installed_when_it_is_checked(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first start waits for the page, and not for its tests' packages."""
    (build.SITE / "package-lock.json").write_text("{}")
    (build.SITE / "node_modules").mkdir()
    monkeypatch.setattr(build, "_wheel", lambda: (["node"], ["npm"]))
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    installed = list[bool]()
    monkeypatch.setattr(build, "_run", lambda command, **_: installed.append("--omit=dev" not in command))
    for everything in (False, False, True, False, True):
        build.prepared_node(everything=everything)
    assert installed == [False, True]


def test_who_has_no_home_has_a_cache_in_the_sites_folder(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build._npm_cache() == {}
    monkeypatch.setenv("HOME", str(tmp_path / "nonexistent"))
    assert build._npm_cache() == {"npm_config_cache": str(build.WORK / "npm")}


def test_without_its_index_it_is_not_built(build: ModuleType) -> None:
    build.STAMP.write_text(build.digest())
    assert not build.is_built(build.digest())


@pytest.mark.parametrize(
    ("version", "is_enough"),
    [
        ((18, 20, 0), False),
        ((20, 18, 9), False),
        ((20, 19, 0), True),
        ((21, 7, 0), False),
        ((22, 11, 0), False),
        ((22, 12, 0), True),
        ((24, 0, 0), True),
        ((), False),
    ],
)
def test_a_node_is_used_that_the_bundler_runs_on(build: ModuleType, version: tuple[int, ...], is_enough: bool) -> None:
    assert build.is_new_enough(version) is is_enough


def test_a_page_that_has_grown_too_large_is_refused(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    page(build.STATIC, bytes(range(256)) * 100)
    build.check_budgets(build.STATIC)
    monkeypatch.setattr(build, "SHELL_BYTES_MAX", 100)
    with pytest.raises(build.BuildError, match="too large"):
        build.check_budgets(build.STATIC)
    monkeypatch.setattr(build, "SHELL_BYTES_MAX", 160_000)
    monkeypatch.setattr(build, "ALL_BYTES_MAX", 10_000)
    with pytest.raises(build.BuildError, match="too large"):
        build.check_budgets(build.STATIC)


def test_a_new_page_takes_the_place_of_the_old_one(build: ModuleType) -> None:
    page(build.STATIC, b"old")
    (build.STATIC / "assets" / "index-0.js").write_bytes(b"older")
    fresh = build.WORK / "static"
    fresh.mkdir()
    page(fresh, b"new")
    build._put_in_place(fresh)
    assert (build.STATIC / "assets" / "index-1.js").read_bytes() == b"new"
    assert {path.name for path in build._files(build.STATIC)} == {"index.html", "index-1.js"}
    assert not fresh.exists()


def test_there_is_an_index_at_every_moment_and_it_changes_last(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    page(build.STATIC, b"old")
    fresh = build.WORK / "static"
    fresh.mkdir()
    page(fresh, b"new")
    replace, moved = Path.replace, list[str]()

    def watched(path: Path, target: Path) -> Path:
        assert (build.STATIC / "index.html").exists()
        moved.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    build._put_in_place(fresh)
    assert moved == ["index-1.js", "index.html"]


def test_what_fails_is_told_in_one_line(build: ModuleType) -> None:
    command = [sys.executable, "-c", "print('npm http fetch'); print('npm error code ENOTFOUND'); raise SystemExit(1)"]
    with pytest.raises(build.BuildError, match="npm error code ENOTFOUND") as raised:
        build._run(command)
    assert "\n" not in str(raised.value)
    with pytest.raises(build.BuildError, match="No such file"):
        build._run(["/nowhere/node"])


def test_what_takes_too_long_is_told_in_words(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "INSTALL_SECONDS_MAX", 0.05)
    with pytest.raises(build.BuildError, match=r"^sleep 60 was not done after 0\.05 s; try again$"):
        build._run(["/bin/sleep", "60"])


def test_its_help_says_what_it_does() -> None:
    told = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(deed in told for deed in ("--check", "--schema", "--test", "--browser"))


class Told:
    """What the builder of wheels is asked to say."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


class Hook(Generic[T]):
    """In the place of hatchling's, which is there only where wheels are made."""

    def __init__(self, root: Path, app: Told) -> None:
        self.root, self.app = root, app


def make_wheel(monkeypatch: pytest.MonkeyPatch, root: Path, *, status: int) -> list[str]:
    """The warnings of making a wheel where building the page ends with this status."""
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    monkeypatch.setattr(interface, "BuildHookInterface", Hook, raising=False)
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    module = load(SCRIPT.parent.parent / "hatch_build.py")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], status))
    monkeypatch.delenv("CHATCLUSTER_WITHOUT_PAGE", raising=False)
    told = Told()
    module.PageBuildHook(root, told).initialize("standard", {})
    return told.warnings


def test_a_wheel_is_made_without_a_page_that_cannot_be_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CHATCLUSTER_REQUIRE_PAGE", raising=False)
    assert make_wheel(monkeypatch, tmp_path, status=0) == []
    [warning] = make_wheel(monkeypatch, tmp_path, status=1)
    assert "without it" in warning


def test_a_release_is_not_made_without_its_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHATCLUSTER_REQUIRE_PAGE", "1")
    with pytest.raises(RuntimeError, match="CHATCLUSTER_REQUIRE_PAGE"):
        make_wheel(monkeypatch, tmp_path, status=1)
