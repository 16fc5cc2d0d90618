"""The style of the code, as far as a program can tell."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chatcluster"
MODULES = sorted(PACKAGE.rglob("*.py"))
TRIALS = sorted((ROOT / "trials").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SOURCES = [*MODULES, *TRIALS, *TESTS]

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "handlers", "misc"}

WALLS: dict[str | tuple[str, ...], set[str]] = {
    "postgres/": {"asyncio", "trio_asyncio", "asyncpg"},
    "redis/": {"redis", "hiredis"},
    "tools/mcp_": {"mcp", "mcp_types", "httpx2", "httpcore2", "pydantic"},
    ("secrets.py", "push_encryption.py"): {"cryptography"},
}
"""What only one room imports, or two, because it is their outside world."""
HTTPX = {"httpcore", "httpx", "httpx_sse"}
HTTPX_MODULES = {
    "llm/answer_stream.py",
    "llm/client.py",
    "llm/connection_errors.py",
    "client/client.py",
    "client/patience.py",
    "http_bodies.py",
    "http_client.py",
    "http_pool.py",
    "push_sender.py",
    "tracing/export.py",
    "workspaces/engine_http.py",
}
PURE = {"errors.py", "parts.py", "turn.py", "events.py", "views.py", "merge.py", "chat/*.py", "ports/*.py"}
SAYS_PURE = re.compile(r"(?:^|[.:] )Pure(?:[.:]|$)")
IMPURE = {"trio", "asyncio", "socket", "time", "random", "os", "subprocess", "threading"}

SQL = re.compile(r"\s*(select\s.+\sfrom|insert\s+into|update\s+\w+\s+set|delete\s+from|create\s+table)\s", re.I | re.S)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def name(path: Path) -> str:
    """The path from the package's folder, or for a test from the top."""
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that are not documentation, with their lines."""
    documentation = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def sleeps(node: ast.AST, *, polling: bool = False) -> Iterator[tuple[int, str]]:
    """Where a program sleeps other than between two looks at a condition, and what it calls for that."""
    for child in ast.iter_child_nodes(node):
        polls = polling or (isinstance(child, ast.While) and not isinstance(child.test, ast.Constant))
        if isinstance(child, ast.Call):
            called = ast.unparse(child.func)
            if called.rpartition(".")[2] == "sleep" and not polling:
                yield child.lineno, called
        yield from sleeps(child, polling=polls)


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 40
    assert len(TESTS) > 10


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_is_of_readable_size_and_so_are_its_functions(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    limit = 2 * MODULE_LINES_MAX if path in TESTS else MODULE_LINES_MAX
    assert lines <= limit, f"{name(path)} has {lines} lines: split it by subject"
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_LINES_MAX, f"{name(path)}:{function.lineno} {function.name} has {length} lines"


def test_a_module_is_named_for_its_subject() -> None:
    for path in SOURCES:
        words = set(path.relative_to(ROOT).with_suffix("").as_posix().replace("_", "/").split("/"))
        assert not words & BANNED_NAMES, name(path)


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCES:
        assert ast.get_docstring(tree(path)) or path.name in ("__main__.py",), f"{name(path)} has no docstring"


@pytest.mark.parametrize("room", WALLS)
def test_each_outside_world_has_one_room_that_speaks_to_it(room: str | tuple[str, ...]) -> None:
    users = [name(path) for path in MODULES if imports(path) & WALLS[room]]
    assert users
    assert all(user.startswith(room) for user in users), users


def test_http_requests_are_made_by_the_two_clients_and_what_they_share() -> None:
    assert {name(path) for path in MODULES if imports(path) & HTTPX} <= HTTPX_MODULES


def test_the_vocabulary_is_pure() -> None:
    for pattern in PURE:
        for path in PACKAGE.glob(pattern):
            assert not imports(path) & IMPURE, name(path)
            if not pattern.startswith("ports"):
                assert not [function.name for function in functions(path) if isinstance(function, ast.AsyncFunctionDef)]


def test_what_says_that_it_is_pure_imports_nothing_of_the_world() -> None:
    said = [path for path in MODULES if SAYS_PURE.search((ast.get_docstring(tree(path)) or "").partition("\n\n")[0])]
    assert len(said) > 50
    for path in said:
        assert not imports(path) & IMPURE, name(path)


def test_sql_is_in_sql_files() -> None:
    for path in MODULES:
        for line, text in texts(path):
            assert not SQL.match(text), f"{name(path)}:{line} is SQL outside of sql/"


def test_tests_wait_on_states_and_never_for_a_while() -> None:
    """What only the operating system knows has to be polled. A clock that jumps makes trio's sleep a state."""
    for path in (*TESTS, *TRIALS):
        jumps = not path.name.startswith("test_") or any(
            clock in source.read_text()
            for clock in ("autojump_", "VirtualClock")
            for source in (path, path.parent / "conftest.py")
        )
        for line, called in sleeps(tree(path)):
            assert called == "trio.sleep", f"{name(path)}:{line}"
            assert jumps, f"{name(path)}:{line}"


def test_no_error_is_swallowed() -> None:
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler):
                caught = "" if node.type is None else ast.unparse(node.type)
                broad = caught in ("", "Exception", "BaseException")
                silent = all(isinstance(statement, ast.Pass) for statement in node.body)
                assert not (broad and silent), f"{name(path)}:{node.lineno}"


def test_nothing_is_left_to_do() -> None:
    for path in SOURCES:
        assert not re.search(r"#\s*(TODO|FIXME|XXX|HACK)\b", path.read_text()), name(path)


def test_imports_go_only_downward(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True)
    assert status == 0, capsys.readouterr().out


# --- figures ----------------------------------------------------------------------------------

FUNCTION_LINES_MEDIAN_MAX = 9
FUNCTION_LINES_P95_MAX = 25
FIELDS_MAX = 15
FAN_OUT_MAX = 12

COMPOSITION_ROOT = {"chatcluster.cluster", "chatcluster.assembly", "chatcluster.workspace_host"}


def fields_of(defined: ast.ClassDef) -> set[str]:
    """What is assigned to ``self`` anywhere, and what is declared in the class itself."""
    declared = {
        node.target.id for node in defined.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assigned = {
        node.attr
        for node in ast.walk(defined)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return declared | assigned


def bases_of(defined: ast.ClassDef) -> list[ast.expr]:
    """Of a generic one its name, without what it is a kind of."""
    return [base.value if isinstance(base, ast.Subscript) else base for base in defined.bases]


def used_by_themselves(sources: list[Path]) -> set[str]:
    """The names that stand somewhere else than in an import or as the base of one class alone."""
    classes = [node for path in sources for node in nodes(path) if isinstance(node, ast.ClassDef)]
    bases = [base for defined in classes for base in bases_of(defined)]
    alone = {id(base) for base in bases}
    names = {
        node.id for path in sources for node in nodes(path) if isinstance(node, ast.Name) and id(node) not in alone
    }
    of_several = {name for name, classes in Counter(map(ast.unparse, bases)).items() if classes > 1}
    return names | of_several


def run(node: ast.AST) -> Iterator[ast.AST]:
    """A module's code without what only the type checker looks at."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from run(child)


def fan_out() -> dict[str, set[str]]:
    """The modules of ours that each module imports, wherever in it."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}

    def imported(path: Path) -> Iterator[str]:
        for node in run(tree(path)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in modules else node.module for name in names)

    found = {}
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[module] = (set(imported(path)) & modules) - {module, "chatcluster"}
    return found


def test_functions_are_short() -> None:
    lengths = sorted(
        (function.end_lineno or 0) - function.lineno + 1 for path in MODULES for function in functions(path)
    )
    assert lengths[len(lengths) // 2] <= FUNCTION_LINES_MEDIAN_MAX
    assert lengths[len(lengths) * 95 // 100] <= FUNCTION_LINES_P95_MAX


def test_no_class_has_more_state_than_can_be_kept_in_mind() -> None:
    """The fields of a base count where that is, as it has a meaning of its own. One that is there for a single class
    counts with it."""
    sources = [*MODULES, *TRIALS]
    classes = [node for path in sources for node in nodes(path) if isinstance(node, ast.ClassDef)]
    known, apart = {node.name: node for node in classes}, used_by_themselves(sources)

    def state_of(defined: ast.ClassDef) -> set[str]:
        bases = [known[base] for base in map(ast.unparse, bases_of(defined)) if base in known and base not in apart]
        return fields_of(defined).union(*map(state_of, bases))

    large = {node.name: count for node in classes if (count := len(state_of(node))) > FIELDS_MAX}
    assert not large


def test_a_module_knows_few_others_and_the_composition_root_knows_them_all() -> None:
    large = {module for module, others in fan_out().items() if len(others) > FAN_OUT_MAX}
    assert large == COMPOSITION_ROOT


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Packages aside, which are the names of what is in them."""
    left = {module: set(others) for module, others in fan_out().items()}
    while free := {module for module, others in left.items() if not others & set(left)}:
        left = {module: others for module, others in left.items() if module not in free}
    assert not left
