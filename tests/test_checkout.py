"""Another commit, checked out beside: it runs also where it depends on what we no longer do."""

import subprocess
import sys
import zipfile
from pathlib import Path

import checkout
import pytest
import trio

WHEEL = "gone-1.0-py3-none-any.whl"
WHEEL_FILES = {
    "gone.py": "SAID = 'here'",
    "gone-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: gone\nVersion: 1.0\n",
    "gone-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "gone-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, in the place of ours."""
    root = tmp_path / "repository"
    root.mkdir()
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        for name, text in WHEEL_FILES.items():
            wheel.writestr(name, text)
    subprocess.run(["git", "init", "-q", root], check=True)
    monkeypatch.setattr(checkout, "ROOT", root)
    return root


def commit(root: Path, *dependencies: str) -> None:
    listed = ", ".join(f'"{text}"' for text in dependencies)
    (root / "pyproject.toml").write_text(f"[project]\ndependencies = [{listed}]\n")
    git = ["git", "-C", str(root), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)


async def test_what_only_the_other_commit_depends_on_is_installed_beside_it(repository: Path) -> None:
    commit(repository, "trio>=0.1", f"gone @ {(repository.parent / WHEEL).as_uri()}")
    async with checkout.checked_out("HEAD", purpose="test") as (tree, packages):
        assert (tree / "pyproject.toml").exists()
        program = [sys.executable, "-c", "import gone; print(gone.SAID)"]
        done = await trio.run_process(program, env={"PYTHONPATH": str(packages)}, capture_stdout=True)
        assert done.stdout == b"here\n"
        assert not (packages / "trio").exists()  # that one is here


async def test_where_nothing_is_missing_nothing_is_installed(repository: Path) -> None:
    commit(repository, "trio>=0.1", "no-such-package; python_version < '3'")
    async with checkout.checked_out("HEAD", purpose="test") as (_, packages):
        assert not packages.exists()


async def test_a_package_that_cannot_be_had_is_named(repository: Path) -> None:
    commit(repository, f"gone @ {(repository.parent / 'nowhere.whl').as_uri()}")
    with pytest.raises(checkout.CheckoutFailed, match="gone @"):
        async with checkout.checked_out("HEAD", purpose="test"):
            pytest.fail("it was checked out without its packages")
