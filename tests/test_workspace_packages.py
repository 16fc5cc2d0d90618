"""What a machine has installed, as dpkg says, or else its programs."""

from __future__ import annotations

import shutil

import pytest

from chatcluster.workspaces.host.packages import missing_git, missing_packages, to_do

NONE_OF_THAT_NAME = "surely-no-such-package"


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this machine has no dpkg")
async def test_dpkg_is_asked_where_there_is_one() -> None:
    assert await missing_packages(["dpkg", NONE_OF_THAT_NAME]) == [NONE_OF_THAT_NAME]
    assert await missing_packages([NONE_OF_THAT_NAME]) == [NONE_OF_THAT_NAME]
    assert await missing_packages([]) == []


async def test_elsewhere_a_program_of_its_name_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {"git": "/usr/bin/git"}
    monkeypatch.setattr("chatcluster.workspaces.host.packages.shutil.which", programs.get)
    assert await missing_packages(["git", "ripgrep"]) == ["ripgrep"]


@pytest.mark.parametrize(
    ("programs", "said"), [({"apt-get": "/usr/bin/apt-get"}, "apt-get install a b"), ({}, "install a, b")]
)
def test_what_is_to_be_done_is_said_as_the_machine_does_it(
    monkeypatch: pytest.MonkeyPatch, programs: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("chatcluster.workspaces.host.packages.shutil.which", programs.get)
    assert to_do(["a", "b"]) == said


def test_a_machine_without_git_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcluster.workspaces.host.packages.shutil.which", {"git": "/usr/bin/git"}.get)
    assert missing_git() == ""
    monkeypatch.setattr("chatcluster.workspaces.host.packages.shutil.which", {"apt-get": "/usr/bin/apt-get"}.get)
    assert missing_git().endswith("without git: apt-get install git")
