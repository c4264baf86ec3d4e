"""Models whose weights are said to be elsewhere: no command opens anything outside the model's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantize.errors import InputError
from quantize.loading import external_files, read_model
from quantize.model import load_model
from quantize.session import make_session, outputs
from tests.quantize.net import images
from tests.robustness.model_commands import (
    COMMANDS,
    Bench,
    bench,
    materials,
    refused,
    small_classifier,
)
from tests.robustness.opened_files import opened

__all__ = ["bench", "materials"]  # fixtures

DATA = "weights.bin"
REFUSED = "every command refuses it, naming the weight and the path; the file outside is not opened"


def pointed(
    location: str | None, *, offset: str | None = None, length: str | None = None, tensor: int = 0
) -> tuple[onnx.ModelProto, bytes]:
    """A classifier one of whose weights is said to be elsewhere, and the bytes that belong there."""
    model = small_classifier()
    weight = model.graph.initializer[tensor]
    content = bytes(weight.raw_data)
    point(weight, location, offset=offset, length=length)
    return model, content


def point(
    weight: TensorProto, location: str | None, *, offset: str | None = None, length: str | None = None
) -> None:
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            weight.external_data.add(key=key, value=value)


def row(done: str, does: str = REFUSED, *, times: int = len(COMMANDS)) -> pytest.MarkDecorator:
    return pytest.mark.robustness("Models", done, does, times=times)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the model's folder that would make a fine weight."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    path = folder / DATA
    path.write_bytes(pointed(None)[1])
    return path


def absolute(bench: Bench, secret: Path) -> str:
    return str(secret)


def parent(bench: Bench, secret: Path) -> str:
    return f"../secrets/{DATA}"


def parent_in_the_middle(bench: Bench, secret: Path) -> str:
    (bench.folder / "sub").mkdir()
    return f"sub/../../secrets/{DATA}"


def backslashes(bench: Bench, secret: Path) -> str:
    return f"..\\secrets\\{DATA}"


def drive(bench: Bench, secret: Path) -> str:
    return f"C:{secret}"


def with_nul(bench: Bench, secret: Path) -> str:
    (bench.folder / DATA).write_bytes(secret.read_bytes())
    return f"{DATA}\0.txt"


def symlink(bench: Bench, secret: Path) -> str:
    (bench.folder / DATA).symlink_to(secret)
    return DATA


def symlink_inside(bench: Bench, secret: Path) -> str:
    (bench.folder / "real.bin").write_bytes(secret.read_bytes())
    (bench.folder / DATA).symlink_to("real.bin")
    return DATA


def folder_symlink(bench: Bench, secret: Path) -> str:
    (bench.folder / "sub").symlink_to(secret.parent)
    return f"sub/{DATA}"


def hard_link(bench: Bench, secret: Path) -> str:
    os.link(secret, bench.folder / DATA)
    return DATA


def memory_address(bench: Bench, secret: Path) -> str:
    return "*/_ORT_MEM_ADDR_/*"


def process_files(bench: Bench, secret: Path) -> str:
    return "/proc/self/environ"


@pytest.mark.parametrize(
    ("place", "phrase"),
    [
        pytest.param(absolute, "is an absolute path", marks=row("External data with an absolute path")),
        pytest.param(process_files, "is an absolute path", marks=row("External data with an absolute path")),
        pytest.param(drive, "is an absolute path", marks=row("External data with a drive letter")),
        pytest.param(parent, "leaves the model's folder", marks=row("External data with ..")),
        pytest.param(parent_in_the_middle, "leaves the model's folder", marks=row("External data with ..")),
        pytest.param(backslashes, "is not a path", marks=row("External data with backslashes")),
        pytest.param(with_nul, "is not a path", marks=row("External data with a NUL in its path")),
        pytest.param(symlink, "symbolic link", marks=row("External data behind a symbolic link")),
        pytest.param(symlink_inside, "symbolic link", marks=row("External data behind a symbolic link")),
        pytest.param(
            folder_symlink,
            "'sub' is a symbolic link",
            marks=row("External data in a folder that is a symbolic link"),
        ),
        pytest.param(hard_link, "is a hard link", marks=row("External data that is a hard link")),
        pytest.param(
            memory_address,
            "does not exist",
            marks=row("External data at ONNX Runtime's marker for an address in memory"),
        ),
    ],
)
def test_data_outside_the_folder(
    place: Callable[[Bench, Path], str],
    phrase: str,
    bench: Bench,
    secret: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    location = place(bench, secret)
    model, content = pointed(location)
    if place is memory_address:
        # The marker's offset is the address: of bytes that really are in this process.
        here = np.frombuffer(content, np.uint8)
        model, _ = pointed(location, offset=str(here.ctypes.data), length=str(len(content)))
    bench.put(model)
    with opened(secret.parent) as names:
        refused(bench, capsys, phrase, "initializer 'c1'")
    assert names() == []


def test_what_is_outside_would_be_seen_if_it_were_opened(secret: Path) -> None:
    with opened(secret.parent) as names:
        secret.read_bytes()
    assert DATA in names()


@pytest.mark.parametrize(
    ("offset", "length", "phrase"),
    [
        pytest.param("-8", None, "its offset '-8'", marks=row("External data with a negative offset")),
        pytest.param("0", "-1", "its length '-1'", marks=row("External data with a negative length")),
        pytest.param(str(2**63), None, "has 0 there", marks=row("External data with a huge offset")),
        pytest.param("1" * 5000, None, "is no number", marks=row("External data with a huge offset")),
        pytest.param("0", str(2**62), "takes 648 bytes", marks=row("External data with a huge length")),
        pytest.param(
            "0x10", None, "is no number", marks=row("External data with an offset that is no number")
        ),
        pytest.param("٣", None, "is no number", marks=row("External data with an offset that is no number")),
        pytest.param(
            "64", None, "needs 648 bytes from byte 64", marks=row("A data file shorter than claimed")
        ),
    ],
)
def test_places_in_a_file(
    offset: str | None, length: str | None, phrase: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    model, content = pointed(DATA, offset=offset, length=length)
    (bench.folder / DATA).write_bytes(content)
    bench.put(model)
    refused(bench, capsys, phrase, "initializer 'c1'")


@row("A data file that is a folder, a pipe, or empty; two places for one weight", times=4)
def test_what_is_no_data_file(bench: Bench) -> None:
    model, _ = pointed(DATA)
    bench.put(model)
    place = bench.folder / DATA
    place.mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        load_model(bench.model)
    place.rmdir()
    os.mkfifo(place)  # reading it would wait for ever
    with pytest.raises(InputError, match="is not a file"):
        load_model(bench.model)
    place.unlink()
    place.touch()
    with pytest.raises(InputError, match="has 0 there; copy it again"):
        load_model(bench.model)
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    bench.put(model)
    with pytest.raises(InputError, match="says twice where"):
        load_model(bench.model)


@row("External data in an attribute, a branch or a function, outside the folder", times=3)
@pytest.mark.parametrize("where", ["attribute", "branch", "function"])
def test_data_outside_wherever_the_tensor_is(where: str, bench: Bench, secret: Path) -> None:
    model = small_classifier()
    tensor = numpy_helper.from_array(np.zeros(162, np.float32), "hidden")
    point(tensor, f"../secrets/{DATA}")
    constant = helper.make_node("Constant", [], ["k"], value=tensor)
    if where == "attribute":
        model.graph.node.append(constant)
    elif where == "branch":
        out = helper.make_tensor_value_info("k", TensorProto.FLOAT, [162])
        inner = helper.make_graph([constant], "g", [], [out])
        flag = helper.make_node(
            "Constant", [], ["flag"], value=helper.make_tensor("f", TensorProto.BOOL, [], [1])
        )
        model.graph.node.extend(
            [flag, helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner)]
        )
    else:
        opsets = [helper.make_opsetid("", 13)]
        model.functions.append(helper.make_function("mine", "F", [], ["k"], [constant], opsets))
        model.opset_import.append(helper.make_opsetid("mine", 1))
        model.graph.node.append(helper.make_node("F", [], ["k"], domain="mine"))
    bench.put(model)
    with opened(secret.parent) as names, pytest.raises(InputError, match="leaves the model's folder"):
        load_model(bench.model)
    with opened(secret.parent) as names, pytest.raises(InputError, match="leaves the model's folder"):
        make_session(bench.model, threads=1)
    assert names() == []


@pytest.mark.robustness(
    "Models",
    "External data where it may be: beside the model, in a folder below, in pieces of one file",
    "it is read, and the scores are those of the model in one file",
    times=3,
)
def test_honest_external_data_works(bench: Bench) -> None:
    whole = small_classifier()
    expected = outputs(make_session(whole, threads=1), images())
    model = onnx.ModelProto()
    model.CopyFrom(whole)
    (bench.folder / "a b").mkdir()
    pieces = b""
    for position, weight in enumerate(model.graph.initializer):
        content = bytes(weight.raw_data)
        if position == 0:
            (bench.folder / "first.bin").write_bytes(content)
            point(weight, "./first.bin")
        else:
            pieces += b"\0" * (64 - len(pieces) % 64)
            point(weight, "a b/rest.bin", offset=str(len(pieces)), length=str(len(content)))
            pieces += content
    (bench.folder / "a b" / "rest.bin").write_bytes(pieces)
    bench.put(model)
    read = read_model(bench.model)
    assert [tensor.raw_data for tensor in read.graph.initializer] == [
        tensor.raw_data for tensor in whole.graph.initializer
    ]
    assert external_files(bench.model) == (bench.folder / "a b/rest.bin", bench.folder / "first.bin")
    np.testing.assert_array_equal(outputs(make_session(bench.model, threads=1), images()), expected)


@row("A model with external data, packaged", "package refuses it: its report vouches for one file", times=1)
def test_package_takes_one_file(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    model, content = pointed(DATA)
    (bench.folder / DATA).write_bytes(content)
    bench.put(model)
    refused(bench, capsys, "keeps weights in 'weights.bin'", commands=("package",))


@row(
    "A model with external data, exported for a server", "the exported file holds all of its weights", times=1
)
def test_a_server_gets_one_file(bench: Bench) -> None:
    from quantize.exporting.model_repository import export_repository

    model, content = pointed(DATA)
    (bench.folder / DATA).write_bytes(content)
    made = export_repository(bench.put(model), bench.out)
    (written,) = (path for path in made.files if path.name == "model.onnx")
    assert external_files(written) == ()
    assert read_model(written).graph.initializer[0].raw_data == content
