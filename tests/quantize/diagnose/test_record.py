"""The file of the command `sensitivity`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from quantize.diagnose.ablation import Effect, OperatorEffect
from quantize.diagnose.record import Record, read_record, write_record
from quantize.diagnose.sensitivity import most_harmful_first, savings
from quantize.errors import InputError


def effect(kl_nats: float) -> Effect:
    return Effect(kl_nats, 0.9, 0.8)


def record(**without: float) -> Record:
    operators = [OperatorEffect(name, "Conv", effect(0.1), effect(kl)) for name, kl in without.items()]
    return Record({"model": "m"}, "minmax", 0.75, effect(1.0)).with_operators(operators, complete=True)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = record(a=0.9, b=0.5, c=1.2)
    write_record(made, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json", "--x") == made
    begun = Record({"model": "m"})
    write_record(begun, tmp_path / "r.json")
    again = read_record(tmp_path / "r.json", "--x")
    assert math.isnan(again.fp32_top1_fraction)
    assert (again.int8, again.operators, again.complete, again.saved_nats()) == (None, (), False, {})


def test_most_harmful_first_by_what_is_saved() -> None:
    made = record(a=0.9, b=0.5, c=1.2)
    assert [one.name for one in made.operators] == ["b", "a", "c"]
    assert made.saved_nats() == pytest.approx({"b": 0.5, "a": 0.1, "c": -0.2})
    content = made.to_json()
    assert [one["saved_nats"] for one in content["operators"]] == pytest.approx([0.5, 0.1, -0.2])


def test_an_operator_measured_twice_counts_once() -> None:
    made = record(a=0.9)
    twice = made.with_operators([*made.operators, *record(a=0.2).operators], complete=True)
    assert [one.without.kl_nats for one in twice.operators] == [0.2]


def change(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**content, key: value}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", "9"),
        ("settings", []),
        ("operators", [{}]),
        ("operators", None),
        ("operators", [{"name": 1, "op_type": "Conv", "alone": {}, "without": {}}]),
        ("int8", {"kl_nats": "1", "agreement_fraction": 1, "top1_fraction": 1}),
        ("int8", {"kl_nats": True, "agreement_fraction": 1, "top1_fraction": 1}),
        ("int8", {"kl_nats": 1}),
        ("fp32_top1_fraction", "x"),
        ("rule", 3),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(change(record(a=0.5).to_json(), key, value)))
    with pytest.raises(InputError, match=r"--x .*r\.json: is no record of the command sensitivity"):
        read_record(path, "--x")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "[" * 100_000, "NaN", "\x00"])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"--x .*: is no "):
        read_record(tmp_path / "r.json", "--x")


def test_bytes_and_absent_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no JSON"):
        read_record(tmp_path / "r.json", "--x")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_record(tmp_path / "absent.json", "--x")


def test_savings_measure_the_whole_once_and_each_once() -> None:
    asked: list[str | None] = []

    def divergence_without(name: str | None) -> float:
        asked.append(name)
        return {None: 1.0, "a": 0.25, "b": 1.5, "c": 0.25}[name]

    found = savings(["a", "b", "c"], divergence_without)
    assert asked == [None, "a", "b", "c"]
    assert found == {"a": 0.75, "b": -0.5, "c": 0.75}
    assert most_harmful_first(found) == ["a", "c", "b"]
