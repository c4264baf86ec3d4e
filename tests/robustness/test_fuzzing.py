"""Every reader of hostile bytes, on its whole corpus, and on inputs that are made to reach its code."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import DecodeError

from fuzz.harness import LIMIT_MB, LIMIT_S, Finding, Target, attempt, corpus_files
from fuzz.make_corpus import SEEDS
from fuzz.messages import messages_in, mutated_model
from fuzz.targets import NAMES, load
from quantize.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
DOES = "reads them, or refuses them with one line of its own"
WITHIN = f"{DOES}, each within {LIMIT_S} s and {LIMIT_MB} MB"

SAVED = [
    pytest.param(
        name,
        path,
        id=f"{name}-{path.name}",
        marks=pytest.mark.robustness("Fuzzing", f"saved {load(name).what}: seeds, and old findings", DOES),
    )
    for name in NAMES
    for path in corpus_files(name)
]

FRESH = [
    pytest.param(
        name,
        id=name,
        marks=pytest.mark.robustness(
            "Fuzzing",
            f"{load(name).what}, mutated towards code not yet reached",
            WITHIN,
            load(name).short_runs,
        ),
    )
    for name in NAMES
]


@pytest.mark.parametrize(("name", "path"), SAVED)
def test_saved_inputs_are_no_findings(name: str, path: Path) -> None:
    attempt(load(name), path.read_bytes())


@pytest.mark.parametrize("name", FRESH)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris (in the extra fuzz), which has builds for x86-64 Linux only")
    runs = load(name).short_runs
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fuzz",
            name,
            f"-atheris_runs={runs}",
            "-seed=1",
            f"-artifact_prefix={tmp_path}/",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    tried = re.search(r"Done (\d+) in", done.stderr)
    assert tried is not None, done.stderr[-2000:]
    assert int(tried[1]) >= runs


def test_every_target_has_seeds_that_are_accepted_and_some_that_are_not() -> None:
    """Else a fuzzer, or a replay, could run against a wall."""
    assert set(SEEDS) == set(NAMES)
    for name in NAMES:
        outcomes = set()
        for path in corpus_files(name):
            try:
                load(name).run(path.read_bytes())
                outcomes.add("accepted")
            except InputError:
                outcomes.add("refused")
        assert "accepted" in outcomes, name
        # An entry of the cache that is not right is none: nobody asked for it.
        assert name == "cache_entry" or "refused" in outcomes, name


def raising(error: Exception) -> Target:
    def run(data: bytes) -> None:
        raise error

    return Target("made_up", "nothing", run, max_bytes=1, short_runs=1)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (InputError("one line"), None),
        (InputError("two\nlines"), Finding),
        (InputError(" "), Finding),
        (ValueError("one line"), ValueError),
    ],
)
def test_what_counts_as_a_finding(error: Exception, found: type[Exception] | None) -> None:
    if found is None:
        attempt(raising(error), b"")
    else:
        with pytest.raises(found):
            attempt(raising(error), b"")


def test_mutated_models_are_mostly_models_and_mostly_changed() -> None:
    seed = next(path for path in corpus_files("model") if "classifier" in path.name).read_bytes()
    readable = changed = 0
    for number in range(100):
        data = mutated_model(seed, 8192, number, lambda data, most: data[1:most])
        assert data == mutated_model(seed, 8192, number, lambda data, most: data[1:most])
        assert len(data) <= 8192
        changed += data != seed
        with contextlib.suppress(DecodeError):  # a changed byte made it unreadable
            readable += len(messages_in(onnx.ModelProto.FromString(data))) > 1
    assert readable > 60
    assert changed > 80
