from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.config import Config
from quantize.config.document import read_document
from quantize.errors import InputError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_document(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_lines_of_fields_and_list_items(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "model:\n  name: a\n\ntuning:\n  steps:\n    - 1\n    - 2\n"))
    assert document.content == {"model": {"name": "a"}, "tuning": {"steps": [1, 2]}}
    assert document.where(("model", "name")) == "some.yaml:2"
    assert document.where(("tuning", "steps", "1")) == "some.yaml:7"
    assert document.where(("model", "absent")) == "some.yaml:1"
    assert document.where(("absent",)) == "some.yaml"
    assert document.folder == tmp_path


def test_copies_are_deep(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "model: {name: a}"))
    document.copied()["model"]["name"] = "b"
    assert document.content["model"]["name"] == "a"


def test_anchors_and_merges_expand(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"))
    assert document.content["b"] == {"x": 1, "y": 3}
    assert document.content["c"] == {"x": 1, "y": 2}


def test_copies_share_nothing(tmp_path: Path) -> None:
    copied = read_document(written(tmp_path, "a: &a {x: [1]}\nb: *a\n")).copied()
    copied["a"]["x"].append(2)
    assert copied["b"] == {"x": [1]}


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert read_document(written(tmp_path, b"\xef\xbb\xbfmodel: a")).content == {"model": "a"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- a\n- b\n", "expected fields"),
        ("just text", "expected fields"),
        ("a: 1\nb: 2\na: 3\n", ":3: a is given twice, the first time in line 1"),
        ("m:\n  n:\n    x: 1\n    x: 1\n", ":4: m.n.x is given twice"),
        ("s:\n  - x: 1\n    x: 2\n", ":3: s.0.x is given twice"),
        ("1: a\n", ":1: field names are text, got '1'"),
        ("yes: a\n", "field names are text, got 'yes'"),
        ("? [a]\n: b\n", "field names are text"),
        ("a: [1, 2\nb: 3\n", "not valid YAML"),
        ("a: b: c\n", ":1: not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", ":1: a: the tag 'python/object/apply:os.getcwd'"),
        ("a: *nowhere\n", "not valid YAML"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: 2021-02-31\n", ":1: a: '2021-02-31' is a date to YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00\n", ":1: not valid YAML: the character U+0000"),
        (b"a: \xff\xfe\n", "not UTF-8 text at byte 3"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} {'[' * 20}*a{i - 1}{']' * 20}\n" for i in range(1, 90)),
            "expands to",
        ),
        ("a: &a 1\nb: [" + "*a, " * 101 + "1]\n", "more than 100 aliases"),
        ("a: " + "x" * 1_000_001, "too large"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in refused(written(tmp_path, text))


def test_alias_bomb_is_refused_by_what_it_expands_to(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    assert "expands to" in refused(written(tmp_path, "\n".join(lines)))


def test_folder_and_missing_file(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "absent.yaml")
    (tmp_path / "file").touch()
    assert "cannot be read" in refused(tmp_path / "file" / "below.yaml")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text(alphabet="ab1: -[]{}*&\n\"'#!|>%@?,~<=.", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("any"), text)
    try:
        Config.from_document(read_document(path))
    except InputError as error:
        assert "\n" not in str(error)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_SECTIONS = ("model", "quantization", "evaluation", "tuning", "threads", "device", "pruning")
_FIELDS = ("name", "calibration", "op_wise", "model_wise", "recipes", "accuracy", "strategy", "exit_policy")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(section=st.sampled_from(_SECTIONS), name=st.sampled_from(_FIELDS), value=_VALUES, deep=st.booleans())
def test_any_values_are_accepted_or_refused_in_one_line(
    section: str, name: str, value: Any, deep: bool
) -> None:
    try:
        config = Config.from_mapping({section: {name: value} if deep else value})
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert len(config.config_hash()) == 64
        assert isinstance(config.warnings, tuple)
