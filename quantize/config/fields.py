"""What the sections of the configuration are made of: their base class and the types of their fields.

Types are strict: `true` is no number, `1.5` no count, and text that looks like a number stays text except
where the 1.x schema allows it (percentages, lists in one string).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from quantize.config.paths import resolve_path
from quantize.config.suggest import did_you_mean
from quantize.errors import quoted

__all__ = [
    "UNKNOWN_FIELD",
    "AtOnce",
    "DataPath",
    "Fraction",
    "FreeMapping",
    "NonNegative",
    "Positive",
    "Seconds",
    "Section",
    "SizeList",
    "no_settings",
    "plain",
]

# The error type under which an unknown field is reported; `quantize.config.problems` points at its own line.
UNKNOWN_FIELD = "unknown_field"

_PERCENTAGE = re.compile(r"([-+]?\d+(?:\.\d*)?|[-+]?\.\d+)\s*%")


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to fields that are not known.

    A field without a value (`configs:` and nothing behind it) counts as not given, as in 1.x.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise ValueError(f"expected fields ({', '.join(cls.model_fields)}), got {quoted(given)}")
        for name in given:
            if not isinstance(name, str):
                raise ValueError(f"field names are text, got {quoted(name)}")
            if name not in cls.model_fields:
                raise PydanticCustomError(
                    UNKNOWN_FIELD, "unknown field; {help}", {"field": name, "help": cls._help_with(name)}
                )
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def _help_with(cls, name: str) -> str:
        """What to say about a field that does not exist."""
        return did_you_mean(name, cls.model_fields)


def _fraction(given: Any) -> float:
    """0.01, "0.01", "1%" and "1 %" → 0.01."""
    value: float = math.nan
    if isinstance(given, int | float) and not isinstance(given, bool):
        value = float(given)
    elif isinstance(given, str):
        percentage = _PERCENTAGE.fullmatch(given.strip())
        try:
            value = float(percentage[1]) / 100 if percentage else float(given)
        except ValueError:
            value = math.nan
    if not 0.0 <= value < 1.0:
        cure = (
            f'; for {value:g} per cent write {value / 100:g} or "{value:g}%"' if 1.0 <= value < 100.0 else ""
        )
        raise ValueError(
            f'expected a fraction from 0 up to but not 1, such as 0.01 or "1%", got {quoted(given)}{cure}'
        )
    return value


def _sizes(given: Any) -> tuple[int, ...]:
    """100, "100, 200" and [100, 200] → counts; 1.x accepts all three."""
    parts: list[Any] = given.replace(",", " ").split() if isinstance(given, str) else []
    if isinstance(given, list | tuple):
        parts = list(given)
    elif isinstance(given, int):
        parts = [given]
    sizes = [int(part) if isinstance(part, str) and part.isdecimal() else part for part in parts]
    if not sizes or any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
        raise ValueError(f"expected a number of images from 1, got {quoted(given)}")
    return tuple(sizes)


def _path(given: Any, info: ValidationInfo) -> Path:
    if not isinstance(given, str | Path):
        raise ValueError(f"expected a path, got {quoted(given)}")
    folder: Path | None = (info.context or {}).get("folder")
    return resolve_path(given, folder or Path.cwd())


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"field names are text, got {quoted(key)}")
        return MappingProxyType({key: _frozen(inner) for key, inner in value.items()})
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list | tuple) else value


def no_settings() -> Mapping[str, Any]:
    """The default of a free mapping: an empty one that can not be filled."""
    return MappingProxyType({})


def plain(value: Any) -> Any:
    """The value in dicts, lists and scalars of its own, free to be changed or dumped as JSON."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


Positive = Annotated[int, Field(ge=1)]
# The largest servers have some hundred cores; every one asked for becomes a thread or a process.
MOST_AT_ONCE = 1024
AtOnce = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
NonNegative = Annotated[int, Field(ge=0)]
# A day has 86,400 s: anything finite is accepted.
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, BeforeValidator(_fraction)]
SizeList = Annotated[tuple[int, ...], BeforeValidator(_sizes)]
DataPath = Annotated[Path, BeforeValidator(_path)]
# Values in a form that other code defines, kept as written and in written order.
FreeMapping = Annotated[Mapping[str, Any], AfterValidator(_frozen), PlainSerializer(plain)]
