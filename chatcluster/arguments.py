"""The arguments of a tool call: from the text that a model wrote to what a tool takes. Pure.

A model gets arguments wrong, so each way to be wrong has a sentence that tells it what to do: the text is no JSON, the
value is no object, or it is not what the tool's schema asks for.

The schema comes from outside, and so may be anything. What would cost without bound is not looked at: regular
expressions (``pattern``, ``patternProperties``), comparisons of everything with everything, schemas elsewhere, and all
that is beyond ``CHECKS_MAX`` steps; but what takes a few plain values and nothing else, as our own tools do, takes none
that large. A schema that makes no sense checks nothing. The tool itself has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from chatcluster.json_bounds import bounded

if TYPE_CHECKING:  # it takes 10 MB, which a replica whose chats have no tools does without
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

ARGUMENTS_CHARACTERS_MAX = 1 << 20
CHECKS_MAX = 2000
"""Values, and keywords, that are looked at: some 30 ms."""
PROBLEM_CHARACTERS_MAX = 500
PLAIN = ("string", "number", "integer", "boolean", "null")
NOT_CHECKED = (
    "pattern",
    "patternProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "uniqueItems",
    "format",
)

Check = Callable[..., "Iterator[ValidationError] | None"]
LIBRARY = "jsonschema"


class BadArguments(Exception):
    """The arguments do not fit the schema; the text says why, in words for the model."""


class _Enough(Exception):
    """The value is too large to be checked."""


class ArgumentCheck:
    """What one tool asks of its arguments: its schema, made ready when it is first called."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._left = 0

    @cached_property
    def _validator(self) -> Validator:
        """Takes a millisecond, and raises for a schema that makes no sense."""
        from jsonschema import Draft4Validator, Draft7Validator, Draft201909Validator, Draft202012Validator
        from jsonschema.validators import validator_for

        drafts = (Draft202012Validator, Draft201909Validator, Draft7Validator, Draft4Validator)
        named = validator_for(self._schema, default=Draft202012Validator)
        return _made_ready(named if named in drafts else Draft202012Validator, self._schema, self._count)

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments in ``text``, which may be empty. Raises ``BadArguments``."""
        arguments = decoded(text)
        if _is_large(arguments):
            if _takes_little(self._schema):
                raise BadArguments("The arguments are far more than the schema of this tool asks for.")
            return arguments
        self._left = CHECKS_MAX
        try:
            problem = next(iter(self._validator.iter_errors(arguments)), None)
        except Exception:  # noqa: BLE001 - the schema is wrong, or the value too large: the tool itself will judge
            return arguments
        if problem is not None:
            where = "/".join(map(str, problem.absolute_path)) or "the arguments"
            said = problem.message[:PROBLEM_CHARACTERS_MAX]
            raise BadArguments(f"The arguments are not what the schema of this tool asks for: {where}: {said}")
        return arguments

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Enough


def load_library() -> None:
    """Load what schemas are checked with, which takes a tenth of a second: in a thread, before the first check."""
    import_module("jsonschema")
    import_module("jsonschema_specifications")


def decoded(text: str) -> dict[str, Any]:
    """The object in ``text``; none is an empty one. Raises ``BadArguments``."""
    if len(text) > ARGUMENTS_CHARACTERS_MAX:
        raise BadArguments(f"The arguments have more than {ARGUMENTS_CHARACTERS_MAX} characters; call it with less.")
    try:
        value = msgspec.json.decode(bounded(text.encode())) if text.strip() else {}
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadArguments(f"The arguments are not JSON ({error}); call the tool again with a JSON object.") from None
    if not isinstance(value, dict):
        raise BadArguments("The arguments are not a JSON object; call the tool again with one.")
    return value


def _made_ready(draft: type[Validator], schema: dict[str, Any], count: Callable[[], None]) -> Validator:
    from jsonschema.validators import extend
    from jsonschema_specifications import REGISTRY

    checks = {word: _counted(check, count) for word, check in draft.VALIDATORS.items() if word not in NOT_CHECKED}
    checks |= dict.fromkeys(NOT_CHECKED, _passes)
    checks["additionalProperties"] = _unless_patterns(checks["additionalProperties"])
    ready: Validator = extend(draft, checks)(schema, registry=REGISTRY)  # without it, one would be fetched
    return ready


def _counted(check: Check, count: Callable[[], None]) -> Check:
    def counted(*args: Any) -> Iterator[ValidationError] | None:
        count()
        return check(*args)

    return counted


def _unless_patterns(check: Check) -> Check:
    """Which properties are additional is decided by regular expressions as well, where there are any."""

    def checked(validator: Any, value: Any, instance: Any, schema: dict[str, Any]) -> Iterator[ValidationError] | None:
        return None if schema.get("patternProperties") else check(validator, value, instance, schema)

    return checked


def _is_large(value: Any) -> bool:
    """Whether there are more values in it than are looked at."""
    waiting, seen = [value], 0
    while waiting and seen <= CHECKS_MAX:
        inner = waiting.pop()
        seen += 1
        if isinstance(inner, dict):
            waiting.extend(islice(inner.values(), CHECKS_MAX))
        elif isinstance(inner, list):
            waiting.extend(islice(inner, CHECKS_MAX))
    return seen + len(waiting) > CHECKS_MAX


def _takes_little(schema: dict[str, Any]) -> bool:
    """Whether it takes plain values alone, fewer than are looked at."""
    properties = schema.get("properties", {})
    return (
        schema.get("additionalProperties") is False
        and "patternProperties" not in schema
        and isinstance(properties, dict)
        and len(properties) < CHECKS_MAX
        and all(isinstance(one, dict) and one.get("type") in PLAIN for one in properties.values())
    )


def _passes(*_: Any) -> None:
    return None
