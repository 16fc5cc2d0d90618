"""What has changed in a workspace is what git says there, of whatever repository, and nothing where git fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import ran
from sandbox_world import SECRET, needs_sandboxes, spec_of

from chatcluster.workspace_errors import WorkspaceRefused
from chatcluster.workspaces.agent.names import raw
from chatcluster.workspaces.agent_client import AgentClient, over_unix
from chatcluster.workspaces.process_provider import ProcessProvider

pytest_plugins = ["sandbox_fixtures"]
pytestmark = needs_sandboxes

REPOSITORY = "git init -q . && git config user.email a@b && git config user.name n"
COMMIT = "git add -A && git commit -qm one"
BEGUN = f"{REPOSITORY} && echo one >file && {COMMIT}"


@pytest.fixture
async def inside(provider: ProcessProvider) -> AgentClient:
    await provider.start(spec_of("one"))
    return over_unix(provider.socket_path("one"))


async def test_a_diff_is_what_git_says(inside: AgentClient) -> None:
    await ran(
        inside,
        f"{REPOSITORY} && seq 10 >a && echo x >gone && echo m >old"
        " && printf 'a\\0' >binary && git add . && git commit -qm one && seq 12 >a && rm gone && git mv old new"
        " && printf 'b\\0' >binary && echo added >added && git add added && echo u >untracked",
    )
    answer = await inside.diff()
    assert answer.patch.encode() == (await ran(inside, "git diff HEAD")).output
    assert {file.path: (file.status, file.additions, file.deletions) for file in answer.files} == {
        "a": ("modified", 2, 0),
        "gone": ("deleted", 0, 1),
        "new": ("renamed", 0, 0),
        "binary": ("modified", None, None),
        "added": ("added", 1, 0),
        "untracked": ("untracked", None, None),
    }
    assert (answer.additions, answer.deletions) == (3, 1)
    assert (await inside.diff()).digest == answer.digest
    await ran(inside, "echo more >>a")
    assert (await inside.diff()).digest != answer.digest


SIDES = "git checkout -qb o && {0} && git commit -qam o && git checkout -q - && echo m >f && git commit -qam m"
CONFLICT = SIDES.format("echo o >f")
SUBMODULE = f"git init -q . && git init -q lib && (cd lib && {COMMIT}) && git add lib && git commit -qm lib"
ODD = {
    "renamed, with changes": "seq 30 >r && git add r && git commit -qm r && git mv r s && echo 31 >>s",
    "mode": "chmod +x f",
    "no modes": "git config core.fileMode false && chmod +x f",
    "a link in the place of a file": "ln -sf /etc/passwd f",
    "a directory in the place of a file": "rm f && mkdir f && echo x >f/g && git add -A",
    "binary": "head -c 3000 /bin/sh >f",
    "no newline at the end": "printf x >f",
    "line ends": r"git config core.autocrlf true && printf 'one\r\nnew\r\n' >f",
    "line ends by attributes": r"echo '* text eol=crlf' >.gitattributes && git add . && printf 'one\r\nnew\r\n' >f",
    "staged and changed back": "echo two >f && git add f && echo one >f",
    "to be added": "echo x >g && git add -N g",
    "detached": "git checkout -q --detach && echo two >f",
    "no commits": "rm -rf .git && git init -q . && echo two >f && git add f && echo three >f && echo x >g",
    "no commits, of sha256": "rm -rf .git && git init -q --object-format=sha256 . && git add f",
    "sha256": f"rm -rf .git && git init -q --object-format=sha256 . && {COMMIT} && echo two >f",
    "names": r"""for n in $'a\nb' $'t\tq"' -- -rf $'\xff\xfe' ' ' '*' é '\x41'; do echo x >"./$n"; done
                 git add -A; echo x >$'u\n'""",
    "a long name": "echo x >$(printf 'n%.0s' $(seq 255)) && git add -A",
    "deep": "d=$(printf 'd/%.0s' $(seq 300)) && mkdir -p $d && echo x >$d/g && git add -A",
    "long lines": r"head -c 300000 /dev/zero | tr '\0' x >f",
    "escape sequences": r"printf '\033[31mred\033[0m\007\r\n' >f",
    "sparse": "truncate -s 20M g && git add -N g",
    "nested": f"git init -q inner && (cd inner && echo x >x && {COMMIT})",
    "conflict": f"{CONFLICT}; git merge o; true",
    "conflict of a file that is gone": f"{SIDES.format('git rm -q f')}; git merge o; true",
    "in the middle of a rebase": f"{CONFLICT}; git rebase o; true",
    "another configuration": "for name in noprefix mnemonicPrefix relative suppressBlankEmpty; do"
    " git config diff.$name true; done; git config color.ui always; git config diff.external false; echo two >f",
    "hidden by a flag": "git update-index --assume-unchanged f && echo two >f",
    "ignored": "echo ignored >.gitignore && echo x >ignored",
    "a submodule at another commit": f"rm -rf .git && {SUBMODULE} && (cd lib && git commit -q --allow-empty -m 2)",
    "a work tree of another repository": "git worktree add -q ../linked && rm -rf * && mv .git ../main && echo two >f"
    " && echo gitdir: $PWD/../main/worktrees/linked >.git && echo $PWD/.git >../main/worktrees/linked/gitdir",
}
FILES = ("patch", "names")
BEFORE = "$(git rev-parse -q --verify HEAD || git hash-object -t tree /dev/null)"
TOLD = (
    "git -c diff.relative=false diff --no-ext-diff --no-color --src-prefix=a/ --dst-prefix=b/ --ignore-submodules=dirty"
    f" {BEFORE} -- >../patch && git -c diff.relative=false diff --name-only -z {BEFORE} -- >../names"
)
"""As whoever works there would ask, in a form that no configuration changes."""


def odd() -> Iterator[tuple[str, str]]:
    """Where each is, and what is done there."""
    for number, script in enumerate(ODD.values()):
        yield f"odd/{number}", f"{REPOSITORY} && echo one >f && {COMMIT} && {script}"


async def test_a_diff_is_what_git_says_of_odd_repositories(inside: AgentClient) -> None:
    lines = [f"mkdir -p {place}/it && (cd {place}/it && {script}\n{TOLD}) || echo {place}" for place, script in odd()]
    made = await ran(inside, "\n".join(f"({line}) >said 2>&1 || cat said" for line in lines))
    assert (made.exit_code, made.output) == (0, b"")
    different: list[Any] = []
    for (place, _), name in zip(odd(), ODD, strict=True):
        found = await inside.diff(directory=f"{place}/it")
        wanted, names = [(await inside.read_file(f"{place}/{told}", offset=0, limit=1 << 20)).content for told in FILES]
        tracked = sorted(raw(file.path) for file in found.files if file.status != "untracked")
        if found.patch != wanted.decode("utf-8", "replace"):
            different.append((name, found.patch[:300], wanted[:300]))
        if tracked != sorted(filter(None, names.split(b"\0"))):
            different.append((name, tracked, names))
    assert different == []


async def test_a_diff_goes_by_the_configuration_of_whoever_works_there(inside: AgentClient) -> None:
    await ran(inside, f"git config --global core.autocrlf true; {REPOSITORY} && echo one >f && {COMMIT}")
    await ran(inside, "git config --global core.excludesFile ~/ignored && echo drafts >~/ignored && touch drafts")
    await ran(inside, r"printf 'one\r\n' >f")
    assert (await inside.diff()).files == ()


async def test_where_git_fails_half_an_answer_is_none(inside: AgentClient) -> None:
    await ran(inside, f"{REPOSITORY} && echo one >f && {COMMIT} && echo two >f && echo broken >.git/index")
    with pytest.raises(WorkspaceRefused, match="git status fails"):
        await inside.diff()
    await ran(inside, "rm .git/index && git reset -q && rm f && mkfifo f")
    with pytest.raises(WorkspaceRefused, match="git diff fails"):
        await inside.diff()
    await ran(inside, "rm -rf .git/objects/*")
    with pytest.raises(WorkspaceRefused, match="fails"):
        await inside.diff()


async def test_a_diff_is_against_the_commit_that_is_asked_for(inside: AgentClient) -> None:
    await ran(
        inside,
        f"{REPOSITORY} && echo 1 >a && git add . && git commit -qm 1 && git tag base && echo 2 >a && git commit -qam 2",
    )
    assert (await inside.diff()).files == ()
    assert [file.path for file in (await inside.diff(base="base")).files] == ["a"]


async def test_where_there_is_no_repository_or_no_commit_that_is_told(inside: AgentClient) -> None:
    assert not (await inside.diff()).is_repository
    await ran(inside, "git init -q . && echo x >a && git add a")
    answer = await inside.diff()
    assert answer.is_repository
    assert [(file.path, file.status) for file in answer.files] == [("a", "added")]


async def test_where_one_directory_is_the_repository_it_is_that_which_is_told(inside: AgentClient) -> None:
    await ran(inside, f"mkdir cloned other && cd cloned && {REPOSITORY} && echo 1 >a && git add . && git commit -qm 1")
    await ran(inside, "echo 2 >cloned/a")
    answer = await inside.diff()
    assert (answer.is_repository, answer.directory, answer.additions, answer.deletions) == (True, "cloned", 1, 1)
    assert answer.patch.encode() == (await ran(inside, "git -C cloned diff HEAD")).output
    await ran(inside, "git init -q other")
    assert not (await inside.diff()).is_repository, "nobody says which of them"


# --- what a repository would have run ---------------------------------------------------------------


async def test_what_a_repository_would_have_run_is_not_changed_from_within(provider: ProcessProvider) -> None:
    await provider.start(spec_of("one"))
    inside = over_unix(provider.socket_path("one"))
    assert (await ran(inside, BEGUN)).exit_code == 0
    await provider.stop("one")
    await provider.start(spec_of("one"))
    assert (await ran(inside, "echo x >.git/hooks/pre-commit")).exit_code != 0
    assert (await ran(inside, "git config core.fsmonitor /tmp/x")).exit_code != 0
    assert (await ran(inside, "mv .git/hooks .git/old")).exit_code != 0
    assert (await ran(inside, "echo two >>file && git commit -qam two && git log --oneline | wc -l")).output == b"2\n"


@pytest.mark.parametrize("link", ["ln -s {0} .git", "mkdir .git; ln -s {0}/secret .git/config; ln -s {0} .git/hooks"])
async def test_links_in_the_place_of_a_repository_bring_nothing_in(
    outside: Path, provider: ProcessProvider, link: str
) -> None:
    (outside / "config").write_text(SECRET)
    await provider.start(spec_of("one"))
    inside = over_unix(provider.socket_path("one"))
    await ran(inside, link.format(outside))
    await provider.stop("one")
    await provider.start(spec_of("one"))
    assert SECRET.encode() not in (await ran(inside, "cat .git/config .git/hooks/* .git/hooks/secret 2>&1")).output


async def test_a_diff_runs_nothing_that_a_repository_names(inside: AgentClient) -> None:
    await ran(inside, BEGUN)
    await ran(
        inside,
        "printf '#!/bin/sh\\ntouch /tmp/ran\\n' >/tmp/trap; chmod +x /tmp/trap; git config core.fsmonitor /tmp/trap;"
        "git config diff.external /tmp/trap; git config core.pager /tmp/trap; git config core.hooksPath /tmp;"
        "git config remote.o.promisor 1; git config remote.o.url ext::/tmp/trap; git config protocol.ext.allow always;"
        "git config extensions.partialClone o; git config core.sshCommand /tmp/trap; git config core.askPass /tmp/trap;"
        "git config diff.x.textconv /tmp/trap; git config diff.x.command /tmp/trap; echo '* diff=x' >.gitattributes;"
        "rm -f /tmp/ran; echo two >>file",
    )
    answer = await inside.diff()
    assert "+two" in answer.patch
    assert (await ran(inside, "test -e /tmp/ran")).exit_code == 1
    gone = 'rm -f .git/objects/$(git rev-parse HEAD:file | sed "s,^..,&/,")'
    assert (await ran(inside, gone)).exit_code == 0
    with pytest.raises(WorkspaceRefused):
        await inside.diff()
    assert (await ran(inside, "test -e /tmp/ran")).exit_code == 1
