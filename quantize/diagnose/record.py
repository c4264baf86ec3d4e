"""The file of the command `sensitivity`: what was measured so far, of what, and whether that is all."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.regular import read_regular
from quantize.diagnose.ablation import Effect, OperatorEffect
from quantize.diagnose.sensitivity import most_harmful_first
from quantize.errors import InputError
from quantize.files import atomic_write_text

# 1.1 added settings: what the models were refined with.
SCHEMA_VERSION = "1.1"
_READABLE_VERSIONS = ("1.0", "1.1")

# A record of a thousand operators has 400 kB; nothing larger is one.
_LIMIT_BYTES = 1 << 26


@dataclass(frozen=True)
class Record:
    """One measurement, finished or not.

    Attributes:
        settings: what the figures depend on; a measurement is only continued under the same.
        rule: how the ranges were chosen; empty until measured.
        fp32_top1_fraction: how often fp32 is right on the images.
        int8: all operators as integers; None until measured.
        operators: what is known, most harmful first.
        complete: whether every operator was measured.
    """

    settings: Mapping[str, Any]
    rule: str = ""
    fp32_top1_fraction: float = math.nan
    int8: Effect | None = None
    operators: tuple[OperatorEffect, ...] = ()
    complete: bool = False

    @property
    def effort(self) -> str:
        """How the models were refined: "none", "fast" or "full"."""
        found = self.settings.get("refine", {})
        return str(found.get("effort", "none")) if isinstance(found, Mapping) else "none"

    def saved_nats(self) -> dict[str, float]:
        """Operator name -> divergence saved by leaving it in fp32, in the order measured."""
        if self.int8 is None:
            return {}
        return {one.name: self.int8.kl_nats - one.without.kl_nats for one in self.operators}

    def with_operators(self, operators: Iterable[OperatorEffect], *, complete: bool) -> Record:
        """The same with other operators, ranked."""
        by_name = {one.name: one for one in operators}
        ranked = most_harmful_first(dataclasses.replace(self, operators=tuple(by_name.values())).saved_nats())
        return dataclasses.replace(self, operators=tuple(by_name[name] for name in ranked), complete=complete)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is not known yet is null."""
        saved = self.saved_nats()
        return {
            "schema_version": SCHEMA_VERSION,
            "complete": self.complete,
            "settings": dict(self.settings),
            "rule": self.rule,
            "fp32_top1_fraction": None if math.isnan(self.fp32_top1_fraction) else self.fp32_top1_fraction,
            "int8": None if self.int8 is None else dataclasses.asdict(self.int8),
            "operators": [
                {**dataclasses.asdict(one), "saved_nats": saved[one.name]} for one in self.operators
            ],
        }


def write_record(record: Record, path: Path) -> None:
    """Writes all of it or nothing; raises as `atomic_write_text`."""
    text = json.dumps(record.to_json(), indent=2, allow_nan=False)
    atomic_write_text(path, text + "\n")


def read_record(path: Path, flag: str) -> Record:
    """Reads and checks a record.

    Args:
        path: the file.
        flag: how the user named it, for messages.

    Raises:
        InputError: it cannot be read, or is no such record.
    """
    try:
        text = read_regular(path, limit_bytes=_LIMIT_BYTES, what="a record of the command sensitivity")
        content = json.loads(text.decode("utf-8"))
    except InputError as error:
        raise InputError(f"{flag} {path}: {error}") from None
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be read: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{flag} {path}: is no JSON; give a file of the command sensitivity") from error
    try:
        return _record(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{flag} {path}: is no record of the command sensitivity, version {SCHEMA_VERSION}; measure again"
        ) from error


def _record(content: Any) -> Record:
    if content["schema_version"] not in _READABLE_VERSIONS or not isinstance(content["settings"], dict):
        raise ValueError("another format")
    top1 = content["fp32_top1_fraction"]
    return Record(
        settings=content["settings"],
        rule=_text(content["rule"]),
        fp32_top1_fraction=math.nan if top1 is None else _number(top1),
        int8=None if content["int8"] is None else _effect(content["int8"]),
        operators=tuple(
            OperatorEffect(
                _text(one["name"]), _text(one["op_type"]), _effect(one["alone"]), _effect(one["without"])
            )
            for one in content["operators"]
        ),
        complete=content["complete"] is True,
    )


def _effect(content: Any) -> Effect:
    return Effect(**{field.name: _number(content[field.name]) for field in dataclasses.fields(Effect)})


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
