"""Configurations, hostile or mistaken: one line each, with the path of the field and the line of the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quantize.cli import main
from quantize.config import SHIPPED_FOLDER, Config, load_config
from quantize.errors import InputError
from tests.robustness.bad_files import SPECIAL

ROW = pytest.mark.robustness
AREA = "Configuration"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert caught.value.exit_code == 2
    return message


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def expect(folder: Path, text: str | bytes, line: int, field: str, problem: str) -> str:
    """The message begins with file and line and then the field."""
    path = written(folder, text)
    message = refused(path)
    start = f"c.yaml:{line}: {field}{': ' if field else ''}"
    assert message.removeprefix(f"{path.parent}/").startswith(start), message
    assert problem in message, message
    return message


# The text.

_LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
_MERGES = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10))

BOMBS = {
    "billion laughs": ("a0: &a0 [x, x, x, x]\n" + _LAUGHS, 10, "", "expands to"),
    "merges of merges": ("a0: &a0 {x: 1}\n" + _MERGES, 10, "", "expands to"),
    "ten thousand aliases": ("a: &a 1\nb:\n" + "- *a\n" * 10_000, 103, "", "more than 100 aliases"),
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


# Fields that are wrong, or contradict each other.

_TRANSFORM = "quantization:\n  calibration:\n    dataloader:\n      transform:\n        "
_AT = "quantization.calibration.dataloader.transform"
_CRITERION = "tuning:\n  accuracy_criterion:\n    "
_AC = "tuning.accuracy_criterion"

WRONG: dict[str, list[tuple[str, int, str, str]]] = {
    "A tolerance is NaN, infinite, negative, 1 or more, text, or a truth value": [
        (f"{_CRITERION}relative: .nan", 3, f"{_AC}.relative", "expected a finite number"),
        (f"{_CRITERION}relative: 'nan'", 3, f"{_AC}.relative", "expected a fraction"),
        (f"{_CRITERION}absolute: .inf", 3, f"{_AC}.absolute", "expected a finite number"),
        (f"{_CRITERION}absolute: 'inf'", 3, f"{_AC}.absolute", "expected a fraction"),
        (f"{_CRITERION}relative: -0.01", 3, f"{_AC}.relative", "expected a fraction"),
        (f"{_CRITERION}relative: 1", 3, f"{_AC}.relative", 'write 0.01 or "1%"'),
        (f"{_CRITERION}relative: much", 3, f"{_AC}.relative", "got 'much'"),
        (f"{_CRITERION}relative: yes", 3, f"{_AC}.relative", "got True (YAML reads yes"),
        (f"{_CRITERION}relative: 0x1p3", 3, f"{_AC}.relative", "expected a fraction"),
    ],
    "A count is negative, zero, a fraction, text, or absurd": [
        (
            "quantization:\n  calibration:\n    sampling_size: -5",
            3,
            "quantization.calibration.sampling_size",
            "-5",
        ),
        (
            "quantization:\n  calibration:\n    sampling_size: 0",
            3,
            "quantization.calibration.sampling_size",
            "0",
        ),
        (
            "quantization:\n  calibration:\n    sampling_size: 1.5",
            3,
            "quantization.calibration.sampling_size",
            "",
        ),
        (
            "tuning:\n  exit_policy:\n    max_trials: 0",
            3,
            "tuning.exit_policy.max_trials",
            "at least 1, got 0",
        ),
        ("tuning:\n  exit_policy:\n    timeout: -1", 3, "tuning.exit_policy.timeout", "at least 0, got -1"),
        ("tuning:\n  exit_policy:\n    timeout: 1.0e+999", 3, "tuning.exit_policy.timeout", "finite number"),
        (
            "tuning:\n  exit_policy:\n    timeout: '5'",
            3,
            "tuning.exit_policy.timeout",
            "write 5.0 without quotes",
        ),
        ("threads: 1_000_000", 1, "threads", "at most 1024, got 1000000"),
        ("refine:\n  selection_samples: -1", 2, "refine.selection_samples", "at least 0"),
        ("cache:\n  size: 0", 2, "cache.size", "more than 0, got 0"),
        ("cache:\n  size: 1.0e+300", 2, "cache.size", "at most 1000000"),
        (
            "evaluation:\n  performance:\n    configs:\n      num_of_instance: 100000",
            4,
            "evaluation.performance.configs.num_of_instance",
            "at most 1024",
        ),
    ],
    "A transform is unknown, misspelt, has unknown or wrong parameters, or makes images without measure": [
        (f"{_TRANSFORM}Rezise: {{size: 2}}", 5, f"{_AT}.Rezise", "did you mean 'Resize'"),
        (f"{_TRANSFORM}RandomCrop: {{}}", 5, f"{_AT}.RandomCrop", "is not known"),
        (f"{_TRANSFORM}Resize:\n          size: -2", 6, f"{_AT}.Resize.size", "is not a size"),
        (f"{_TRANSFORM}Resize:\n          size: 100000", 6, f"{_AT}.Resize.size", "is too large"),
        (f"{_TRANSFORM}Resize:\n          sice: 2", 6, f"{_AT}.Resize.sice", "did you mean 'size'"),
        (f"{_TRANSFORM}Resize:\n          size: [2, 3, 4]", 6, f"{_AT}.Resize.size", "is not a size"),
        (f"{_TRANSFORM}Resize:", 5, f"{_AT}.Resize", "parameter 'size' is missing"),
        (f"{_TRANSFORM}Resize: 7", 5, f"{_AT}.Resize", "is not a mapping"),
        (f"{_TRANSFORM}CenterCrop:\n          size: 999999999", 6, f"{_AT}.CenterCrop.size", "too large"),
        (f"{_TRANSFORM}Normalize:\n          std: 0", 6, f"{_AT}.Normalize.std", "too small"),
        (f"{_TRANSFORM}Normalize:\n          mean: [.nan]", 6, f"{_AT}.Normalize.mean.0", "finite"),
        (f"{_TRANSFORM}Normalize:\n          mean: a", 6, f"{_AT}.Normalize.mean", "not a finite number"),
        (f"{_TRANSFORM}Transpose:\n          perm: [0, 0, 1]", 6, f"{_AT}.Transpose.perm", "is not an order"),
        (f"{_TRANSFORM}[Resize]", 4, _AT, "expected transforms"),
        (f"{_TRANSFORM}{{}}", 4, _AT, "expected transforms"),
    ],
    "Two fields contradict each other": [
        (f"{_CRITERION}relative: 0.01\n    absolute: 0.01", 2, _AC, "are both given; keep one"),
        (
            "evaluation:\n  accuracy:\n    sampling_size: 5\n    iteration: 5",
            2,
            "evaluation.accuracy",
            "both limit the images",
        ),
        (
            "quantization:\n  target: tensorrt\n  quant_format: QOperator",
            1,
            "quantization",
            "contradict each other",
        ),
        (
            "evaluation:\n  accuracy:\n    metric: {topk: 5, Accuracy: {}}",
            3,
            "evaluation.accuracy.metric",
            "contradict each other",
        ),
        (
            "evaluation:\n  accuracy:\n    dataloader:\n      dataset:\n        ImageFolder: {root: /x}\n"
            "        ImagenetRaw: {data_path: /x}",
            4,
            "evaluation.accuracy.dataloader.dataset",
            "are both given; keep one",
        ),
    ],
    "A field is unknown or misspelt, a section is a value, or a value a section": [
        ("tunning: {}", 1, "tunning", "did you mean 'tuning'"),
        ("tuning:\n  strategy:\n    nmae: basic", 3, "tuning.strategy.nmae", "did you mean 'name'"),
        ("tuning: 7", 1, "tuning", "expected fields"),
        ("tuning: [a]", 1, "tuning", "expected fields"),
        ("model:\n  name: {a: 1}", 2, "model.name", "expected text"),
        ("model:\n  name: on", 2, "model.name", "expected text, got True (YAML reads yes"),
        ("images:\n  on_bad_image: ignore", 2, "images.on_bad_image", "expected 'stop' or 'skip'"),
        ("images:\n  follow_links: 1", 2, "images.follow_links", "expected true or false, got 1"),
    ],
    "A pattern of operator names is not valid, or could take for ever on a long name": [
        ("quantization:\n  op_wise:\n    '(a+)+b': {}", 2, "quantization.op_wise", "for ever"),
        ("quantization:\n  op_wise:\n    '(a|aa)*': {}", 2, "quantization.op_wise", "for ever"),
        ("quantization:\n  op_wise:\n    '((x[+]*)|y){9,}z': {}", 2, "quantization.op_wise", "for ever"),
        ("quantization:\n  op_wise:\n    '(': {}", 2, "quantization.op_wise", "is not a valid pattern"),
        (f"quantization:\n  op_wise:\n    '{'a' * 600}': {{}}", 2, "quantization.op_wise", "600 characters"),
    ],
}


@pytest.mark.parametrize(
    ("text", "line", "field", "problem"),
    [
        pytest.param(
            *case,
            id=f"{case[2].rpartition('.')[2]}-{number}",
            marks=ROW(AREA, done, "Refused in one line with the line and the path of the field"),
        )
        for done, cases in WRONG.items()
        for number, case in enumerate(cases)
    ],
)
def test_wrong_fields(text: str, line: int, field: str, problem: str, tmp_path: Path) -> None:
    expect(tmp_path, text, line, field, problem)


@pytest.mark.parametrize(
    "pattern", ["Conv_[0-9]+", "(Conv|Gemm)_1", "(stem/)?Conv.*", "a{2}", r"\(a+\)+", "Gather_*"]
)
def test_ordinary_patterns_are_accepted(pattern: str) -> None:
    Config.from_mapping({"quantization": {"op_wise": {pattern: {"weight": {"dtype": ["fp32"]}}}}})


FLAGS = [
    ("--tolerable_loss=nan", "--tolerable_loss: expected a fraction"),
    ("--tolerable_loss=-1%", "--tolerable_loss: expected a fraction"),
    ("--calibration_samples=-5", "--calibration_samples: expected a number of images from 1, got -5"),
    ("--max_trials=0", "--max_trials: expected at least 1, got 0"),
    ("--timeout=nan", "--timeout: expected a number of seconds, got 'nan'"),
    ("--seed=-1", "--seed: expected at least 0, got -1"),
    ("--threads=100000000", "--threads: expected at most 1024, got 100000000"),
    ("--cache_size=1e300", "--cache_size: expected at most 1000000"),
    ("--ranges=narrow", "--ranges: 'narrow' is no rule"),
    ("--on_bad_image=ignore", "--on_bad_image: expected stop or skip, got 'ignore'"),
    (f"--config={'x' * 5000}", "--config: expected a path, got a name of 5000 characters"),
    (f"--config={'x/' * 5000}", "no such configuration"),
    (f"--seed={'9' * 5000}", "--seed: expected a whole number"),
]


@ROW(
    AREA,
    "The value of a flag is NaN, negative, absurd, or thousands of characters long",
    "One line with the flag",
)
@pytest.mark.parametrize(("flag", "expected"), FLAGS, ids=[flag[:20] for flag, _ in FLAGS])
def test_values_of_flags(
    flag: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "model: {name: a}\n")
    (tmp_path / "m.onnx").touch()
    common = [f"--input_model={tmp_path}/m.onnx", f"--output_model={tmp_path}/out"]
    config = [] if flag.startswith("--config") else [f"--config={tmp_path}/c.yaml"]
    assert main(["tune", *common, *config, flag]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err
    assert len(err) < 2200


DAMAGES = 150


def _flipped(random: np.random.Generator, content: bytearray) -> None:
    content[int(random.integers(len(content)))] = int(random.integers(256))


def _cut(random: np.random.Generator, content: bytearray) -> None:
    del content[int(random.integers(len(content))) :]


def _moved(random: np.random.Generator, content: bytearray) -> None:
    start, place = sorted(random.integers(0, len(content), 2).tolist())
    content[start:start] = content[place : place + 40]


@ROW(
    AREA,
    "A configuration that ships is damaged at random: bytes changed, the end cut off, pieces moved",
    "Read, or refused in one line; nothing else comes out",
    times=DAMAGES,
)
@pytest.mark.parametrize("damage", [_flipped, _cut, _moved], ids=lambda damage: damage.__name__[1:])
def test_damaged_configurations(
    damage: Callable[[np.random.Generator, bytearray], None], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    shutil.copy(SHIPPED_FOLDER / "demo_digits.yaml", path)
    whole = path.read_bytes()
    random = np.random.default_rng(8)
    for _ in range(DAMAGES):
        content = bytearray(whole)
        damage(random, content)
        path.write_bytes(content)
        try:
            load_config(path)
        except InputError as error:
            assert "\n" not in str(error)
            assert str(path.name) in str(error)
