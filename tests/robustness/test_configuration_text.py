"""The text of a configuration, hostile or mistaken: one line each, with the line of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.cli import main
from quantize.config import load_config
from tests.robustness.bad_files import SPECIAL
from tests.robustness.configuration_files import expect, refused, written

ROW = pytest.mark.robustness
AREA = "Configuration"

# The text.

_LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
_MERGES = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10))

BOMBS = {
    "billion laughs": ("a0: &a0 [x, x, x, x]\n" + _LAUGHS, 10, "", "expands to"),
    "merges of merges": ("a0: &a0 {x: 1}\n" + _MERGES, 10, "", "expands to"),
    "ten thousand aliases": ("a: &a 1\nb:\n" + "- *a\n" * 10_000, 103, "", "more than 100 aliases"),
    "a list of 200,000 values": ("a:\n" + "- 1\n" * 200_000, 29_999, "", "more than 30000 values"),
    "an anchor in itself": ("a: 1\nb: &b {c: [1, *b]}\n", 2, "", "contains itself"),
    "a merge of itself": ("a: 1\nb: &b\n  <<: *b\n", 2, "", "contains itself"),
    "brackets in brackets": ("a: 1\nb: " + "[" * 20_000, 2, "", "nested too deeply"),
    "blocks in blocks": ("".join(f"{' ' * i}a:\n" for i in range(400)), 51, "", "nested too deeply"),
    "a value of a megabyte": ("a: 1\nmodel:\n  name: " + "x" * 900_000, 3, "", "characters are too many"),
    "a name of a megabyte": ("a: 1\n? " + "x" * 900_000 + "\n: 1", 2, "", "characters are too many"),
    "a number of 5,000 digits": (
        "tuning:\n  random_seed: " + "9" * 5000,
        2,
        "tuning.random_seed",
        "plain number",
    ),
    "a hexadecimal of 4,000": (
        "tuning:\n  random_seed: 0x" + "f" * 4000,
        2,
        "tuning.random_seed",
        "plain number",
    ),
}


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(
            what,
            marks=ROW(AREA, f"The file is a bomb: {what}", "Refused with the line, before it is expanded"),
        )
        for what in BOMBS
    ],
)
def test_bombs(what: str, tmp_path: Path) -> None:
    expect(tmp_path, *BOMBS[what])


@ROW(AREA, "The file is larger than a megabyte, up to 20 GB", "Refused by its size, unread")
def test_huge_files(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {name: a}\n")
    with path.open("ab") as file:
        file.truncate(20 << 30)
    assert "bytes is too large for a configuration" in refused(path)


@ROW(
    AREA,
    "The file is a pipe, an endless device, a socket or a folder",
    "Refused at once by what it is, by every command",
)
@pytest.mark.parametrize("kind", [*SPECIAL, "folder"])
def test_what_is_no_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = tmp_path / "c.yaml", tmp_path / "m.onnx"
    model.touch()
    path.mkdir() if kind == "folder" else SPECIAL[kind](path)
    for command in (["tune", f"--output_model={tmp_path}"], ["evaluate"], ["benchmark"]):
        assert main([*command, f"--config={path}", f"--input_model={model}"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {path}: is a {kind}")
        assert err.count("\n") == 1


NO_TEXT = {
    "a photograph": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not UTF-8 text at byte 0"),
    "UTF-16 text": ("model: {name: a}\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
    "zeros": (bytes(100), ":1: not valid YAML: the character U+0000"),
    "Latin-1 text": ("a: 1\nmodel: {name: caf\xe9}\n".encode("latin-1"), ":2: not UTF-8 text at byte 22"),
    "an escape sequence": ("a: 1\nb: \x1b[2J\n", ":2: not valid YAML: the character U+001B"),
    "a bell in a comment": ("a: 1\n# \x07\n", ":2: not valid YAML: the character U+0007"),
    "half a surrogate pair": (b"a: \xed\xa0\x80\n", ":1: not UTF-8 text at byte 3"),
}


@ROW(
    AREA,
    "The file is binary, UTF-16 or Latin-1, or holds control characters",
    "Refused with the line of the first character that is no text",
)
@pytest.mark.parametrize("what", NO_TEXT)
def test_what_is_no_text(what: str, tmp_path: Path) -> None:
    content, expected = NO_TEXT[what]
    assert expected in refused(written(tmp_path, content))


# Tags, types, and what YAML 1.1 makes of plain words.

FIELD = "tuning.random_seed"
TAGS = [
    "!!python/object/apply:os.system ['touch owned']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!custom x",
    "!!timestamp 2024-01-02",
]


@ROW(
    AREA, "A value has a tag, among them those that run code in unsafe loaders", "Refused with field and line"
)
@pytest.mark.parametrize("value", TAGS)
def test_tags(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expect(tmp_path, f"tuning:\n  random_seed: {value}\n", 2, FIELD, "")
    assert not Path("owned").exists()


SURPRISES = {
    "1:30": "YAML reads '1:30' as 90",
    "1:30:00": "YAML reads '1:30:00' as 5400",
    "0777": "YAML reads '0777' as 511",
    "0b11": "YAML reads '0b11' as 3",
    "1:30.5": "as a number of base 60",
    "2024-01-02": "is a date to YAML",
    "no": "expected a whole number, got False (YAML reads yes, no, on and off as true and false",
    "1e3": "expected a whole number, got '1e3' (that is text to YAML; write 1000.0 without quotes)",
    "'7'": "expected a whole number, got '7'",
    "7.0": "expected a whole number, got 7.0",
    ".nan": "expected a finite number, got '.nan'",
    "-.inf": "expected a finite number, got '-.inf'",
    "1.0e+999": "expected a whole number, got inf",
    "[1]": "expected a whole number, got [1]",
    "{a: 1}": "expected a whole number, got {'a': 1}",
    "-1": "expected at least 0, got -1",
    "99999999999999999999": "expected less than 4294967296, got 99999999999999999999",
}


@ROW(
    AREA,
    "A number is written so that YAML 1.1 reads another one (1:30, 0777, 0b11), a date, a truth value, text, "
    "NaN or infinity; or it is of another type, negative, or too large",
    "Refused with field and line, and with what YAML makes of it",
)
@pytest.mark.parametrize("value", SURPRISES)
def test_surprises_of_yaml(value: str, tmp_path: Path) -> None:
    expect(tmp_path, f"tuning:\n  random_seed: {value}\n", 2, FIELD, SURPRISES[value])


@ROW(AREA, "A number is written with underscores, in hexadecimal, or with a sign", "Read as the number it is")
@pytest.mark.parametrize(("value", "expected"), [("1_000", 1000), ("0x1F", 31), ("+5", 5), ("0", 0)])
def test_numbers_that_are_plain(value: str, expected: int, tmp_path: Path) -> None:
    assert load_config(written(tmp_path, f"tuning:\n  random_seed: {value}\n")).seed == expected


@ROW(AREA, "yes, no, on and off stand where true or false belong", "Read as true and false")
def test_words_that_are_truth_values(tmp_path: Path) -> None:
    assert not load_config(
        written(tmp_path, "cache: {enabled: off, by_content: yes}\n")
    ).settings.cache.enabled


KEYS = {
    "1": "got '1'",
    "no": "got 'no'",
    "~": "got '~'",
    "1.5": "got '1.5'",
    "2024-01-02": "got '2024-01-02'",
    "[a, b]": "got 'a list or fields'",
    "{a: b}": "got 'a list or fields'",
    "<<: {1": "got '1'",
}


@ROW(
    AREA,
    "The name of a field is a number, a truth value, nothing, a date, a list, or is merged in",
    "Refused with the line",
)
@pytest.mark.parametrize("key", KEYS)
def test_names_that_are_no_text(key: str, tmp_path: Path) -> None:
    text = f"tuning:\n  {key}: 1{'}' if '{' in key and '<<' in key else ''}\n"
    expect(tmp_path, text, 2, "", f"field names are text, {KEYS[key]}")


@ROW(AREA, "A field is given twice, also inside lists and by another spelling", "Refused with both lines")
@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("threads: 1\nthreads: 2\n", 2, "threads"),
        ("tuning:\n  random_seed: 1\n  'random_seed': 1\n", 3, "tuning.random_seed"),
        ("tuning:\n  objective:\n    - {a: 1, a: 2}\n", 3, "tuning.objective.0.a"),
        ("tuning: {random_seed: 1}\nmodel: {name: a}\ntuning: {}\n", 3, "tuning"),
    ],
)
def test_fields_that_are_given_twice(text: str, line: int, field: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    assert refused(path).startswith(f"{path}:{line}: {field} is given twice, the first time in line ")


@ROW(AREA, "A wrong field comes in by `<<` from another place", "Named with the line where it is written")
def test_merged_fields(tmp_path: Path) -> None:
    text = "tuning:\n  objective: &o\n    random_sead: 1\n  <<: *o\n"
    expect(tmp_path, text, 3, "tuning.random_sead", "unknown field; did you mean 'random_seed'?")
    good = "tuning:\n  objective: &o\n    random_seed: 5\n  <<: *o\n"
    assert load_config(written(tmp_path, good)).seed == 5
