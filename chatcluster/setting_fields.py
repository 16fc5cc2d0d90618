"""One setting, and a section of settings: what a flag, a variable and a line of the documents are made from.

A section is a frozen dataclass whose fields are made by ``setting``. The name of a setting, which its flag and its
variable have, is that of the field; in a section with a ``prefix`` that comes before it, and is written nowhere else:

    @dataclass(frozen=True, kw_only=True)
    class Llm(Section, prefix="llm_"):
        api_key: str = setting("", "API key for the model's server", secret=True)    # --llm-api-key
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from chatcluster.errors import ConfigError
from chatcluster.setting_checks import check_range, flag_name
from chatcluster.texts import is_visible


@dataclass(frozen=True, kw_only=True)
class Setting:
    """``fallbacks`` are further environment variables to look at."""

    name: str
    field: str
    default: str | int | float | bool
    help: str
    minimum: float | None
    maximum: float | None
    secret: bool
    fallbacks: tuple[str, ...]

    def takes(self, value: object) -> bool:
        """Whether the value is of its type. A truth value is no number, though Python has it so."""
        if isinstance(value, bool) or isinstance(self.default, bool):
            return isinstance(value, bool) and isinstance(self.default, bool)
        return isinstance(value, int | float if isinstance(self.default, float) else type(self.default))


def setting(
    default: Any,
    help_text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
    fallbacks: tuple[str, ...] = (),
) -> Any:
    """A field of a section, with what its flag needs."""
    metadata = {"help": help_text, "minimum": minimum, "maximum": maximum, "secret": secret, "fallbacks": fallbacks}
    return field(default=default, metadata=metadata)


class Section:
    """Settings of one subject, checked when they are made: each by itself, then by ``check`` what they are together."""

    PREFIX: ClassVar[str] = ""

    def __init_subclass__(cls, prefix: str = "") -> None:
        cls.PREFIX = prefix

    def __post_init__(self) -> None:
        for item in _fields_of(type(self)):
            minimum, maximum = item.metadata["minimum"], item.metadata["maximum"]
            check_range(self.PREFIX + item.name, getattr(self, item.name), minimum, maximum)
        self.check()

    def check(self) -> None:
        """Raises ``ConfigError``."""

    def require_visible(self, *names: str) -> None:
        """These fields are shown to people. Raises ``ConfigError``."""
        for name in names:
            if not is_visible(getattr(self, name).strip()):
                flag = flag_name(self.PREFIX + name)
                raise ConfigError(f"{flag} must not contain characters that are invisible or control the text")


def settings_of(section: type[Section]) -> tuple[Setting, ...]:
    """The settings of a section, in their order."""
    return tuple(
        Setting(name=section.PREFIX + item.name, field=item.name, default=item.default, **item.metadata)
        for item in _fields_of(section)
    )


def _fields_of(section: type[Section]) -> tuple[Any, ...]:
    return fields(section)  # type: ignore[arg-type]  # each section is a dataclass
