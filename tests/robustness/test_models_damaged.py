"""Files that are damaged or lie about their size, and graphs that are none: refused early, in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantize.errors import PipelineError
from quantize.model import load_model, read_signature
from quantize.refine import Network
from quantize.refine.given import read_given
from quantize.session import make_session
from tests.quantize.models import zoo_case
from tests.robustness.model_commands import (
    Bench,
    bench,
    error_of,
    materials,
    refused,
    row,
    small_classifier,
)

__all__ = ["bench", "materials"]  # fixtures

FLIPS = 600
CUTS = 120


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def many_empty_operators() -> bytes:
    """4 MB of `node {}`, which would be 200 MB of objects."""
    return varint(8) + varint(8) + field(7, field(1, b"") * 2_100_000)


def spelled_numbers() -> bytes:
    """70 MB of zeros in a packed field: 560 MB of int64."""
    tensor = field(7, bytes(70 << 20))
    return varint(8) + varint(8) + field(7, field(5, tensor))


def nested() -> bytes:
    graph = b""
    for _ in range(120):
        graph = field(1, field(5, field(6, graph)))  # node { attribute { g } }
    return field(7, graph)


def git_lfs() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"


def json_text() -> bytes:
    """What onnx would read as a model if the file were called .json."""
    return b'{"irVersion": "8", "graph": {"node": [{"opType": "Relu"}]}}'


def name_that_is_no_text() -> bytes:
    return small_classifier().SerializeToString().replace(b"image", b"im\xffge")


def cut_off() -> bytes:
    return small_classifier().SerializeToString()[:-100]


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        pytest.param(bytes, "has no operators", marks=row("An empty file")),
        pytest.param(git_lfs, "", marks=row("A file that is no ONNX: a Git LFS pointer, JSON")),
        pytest.param(json_text, "", marks=row("A file that is no ONNX: a Git LFS pointer, JSON")),
        pytest.param(cut_off, "is cut off or damaged", marks=row("A file that is cut off")),
        pytest.param(name_that_is_no_text, "a name in it is no text", marks=row("Names that are no UTF-8")),
        pytest.param(nested, "is nested more than 100 deep", marks=row("Graphs in graphs, 120 deep")),
    ],
)
def test_what_is_no_model(
    content: Callable[[], bytes], phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.put(content())
    refused(bench, capsys, phrase)


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        pytest.param(
            many_empty_operators,
            "has more than 2000000 fields",
            marks=row("Two million empty operators, a hundred times as large in memory", times=1),
        ),
        pytest.param(
            spelled_numbers,
            "spells more than",
            marks=row("Numbers spelled one by one, eight times as large in memory", times=1),
        ),
    ],
)
def test_what_would_grow_when_it_is_read(content: Callable[[], bytes], phrase: str, bench: Bench) -> None:
    bench.put(content())
    with pytest.raises(PipelineError, match=phrase):
        load_model(bench.model)


@row("A file of that name that is a folder, a pipe, a device, or not there", times=4)
def test_what_is_no_file(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    place = bench.model
    assert "does not exist" in error_of("inspect", place, bench, capsys)
    place.mkdir()
    assert "is a folder" in error_of("inspect", place, bench, capsys)
    place.rmdir()
    os.mkfifo(place)
    assert "is no file" in error_of("inspect", place, bench, capsys)
    assert "is no file" in error_of("inspect", Path("/dev/zero"), bench, capsys)


@row(
    f"One bit flipped anywhere in a model of 4 kB: {FLIPS} seeded places",
    "one of our own errors, or a model that ONNX Runtime loads or refuses",
    times=FLIPS,
)
def test_flipped_bits(bench: Bench) -> None:
    whole = small_classifier().SerializeToString()
    random = np.random.default_rng(20260113)
    for place in random.choice(len(whole) * 8, FLIPS, replace=False):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        _nothing_but_our_errors(bench, bytes(content))


@row(
    f"The file cut at {CUTS} seeded places",
    "one of our own errors, or a model that ONNX Runtime loads or refuses",
    times=CUTS,
)
def test_cuts(bench: Bench) -> None:
    whole = small_classifier().SerializeToString()
    random = np.random.default_rng(20260114)
    for place in random.choice(len(whole), CUTS, replace=False):
        _nothing_but_our_errors(bench, whole[:place])


@row(
    "Runs of random bytes over the middle of a model: 120 seeded places",
    "one of our own errors, or a model that ONNX Runtime loads or refuses",
    times=120,
)
def test_overwritten_runs(bench: Bench) -> None:
    whole = small_classifier().SerializeToString()
    random = np.random.default_rng(20260115)
    for place in random.choice(len(whole) - 64, 120, replace=False):
        content = bytearray(whole)
        content[place : place + 16] = random.bytes(16)
        _nothing_but_our_errors(bench, bytes(content))


@row(
    "One bit flipped in a QDQ model that a run shall start from (--start_from): 300 seeded places",
    "one of our own errors, or a model that is read",
    times=300,
)
def test_flipped_bits_of_a_start(bench: Bench) -> None:
    case = zoo_case("inverted_residual")
    network = Network(case.prepared, case.inventory, case.target, False)
    whole = case.qdq().SerializeToString()
    random = np.random.default_rng(20260116)
    read = 0
    for place in random.choice(len(whole) * 8, 300, replace=False):
        content = bytearray(whole)
        content[place // 8] ^= 1 << (place % 8)
        path = bench.put(bytes(content))
        try:
            read_given(load_model(path, strict=False), network, name=str(path))
            read += 1
        except PipelineError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert read > 0


def _nothing_but_our_errors(bench: Bench, content: bytes) -> None:
    path = bench.put(content)
    try:
        model = load_model(path)
        read_signature(model, path)
        make_session(path, threads=1)
    except PipelineError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def weight_of(shape: list[int], kind: int = TensorProto.FLOAT, raw: bytes = bytes(64)) -> TensorProto:
    return TensorProto(name="big", dims=shape, data_type=kind, raw_data=raw)


@pytest.mark.parametrize(
    ("tensor", "phrase"),
    [
        pytest.param(
            weight_of([1 << 20, 1 << 20]),
            "'big' claims 4398046511104 bytes",
            marks=row("A weight that claims terabytes in 64 bytes"),
        ),
        pytest.param(
            weight_of([1 << 62, 1 << 62, 4]),
            "'big' claims",
            marks=row("A weight whose shape overflows 64 bits"),
        ),
        pytest.param(
            weight_of([1 << 32, 1 << 32, 0]),
            "but holds 64",
            marks=row("A weight whose shape overflows 64 bits"),
        ),
        pytest.param(
            weight_of([4, 8]), "claims 128 bytes", marks=row("A weight that holds less than its shape")
        ),
        pytest.param(weight_of([4]), "claims 16 bytes", marks=row("A weight that holds more than its shape")),
        pytest.param(
            weight_of([-1, 16]), "with a negative extent", marks=row("A weight of a negative shape")
        ),
        pytest.param(weight_of([1] * 40), "has 40 axes", marks=row("A weight of forty axes")),
        pytest.param(
            weight_of([16], 99), "element type 99", marks=row("A weight of an unknown element type")
        ),
        pytest.param(
            weight_of([16], TensorProto.UNDEFINED),
            "element type 0",
            marks=row("A weight of an unknown element type"),
        ),
        pytest.param(
            TensorProto(name="big", dims=[4], data_type=TensorProto.FLOAT, int64_data=[1, 2, 3, 4]),
            "claims 4 numbers",
            marks=row("A weight whose numbers are in another type's field"),
        ),
    ],
)
def test_weights_that_lie(
    tensor: TensorProto, phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_classifier()
    model.graph.initializer.append(tensor)
    bench.put(model)
    refused(bench, capsys, phrase)


def test_the_bytes_of_the_bombs_are_what_they_say() -> None:
    """So that the tests above test what they mean: each is a message that protobuf would read."""
    small = varint(8) + varint(8) + field(7, field(1, b"") * 3)
    assert len(onnx.ModelProto.FromString(small).graph.node) == 3
    tensor = field(7, bytes(5))
    spelled = onnx.ModelProto.FromString(field(7, field(5, tensor)))
    assert list(spelled.graph.initializer[0].int64_data) == [0] * 5
    assert struct.calcsize("q") == 8
