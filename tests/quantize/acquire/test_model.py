from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantize.acquire import acquire_model
from quantize.acquire.known_files import KNOWN_FILES, KnownFile, known_by_hash, known_by_name
from quantize.cli import main
from quantize.errors import InputError
from tests.quantize.acquire.server import Behaviour, serving
from tests.quantize.conftest import ModelFiles


@pytest.fixture
def server(model_files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Behaviour(model_files.fp32.read_bytes())) as behaviour:
        yield behaviour


@pytest.fixture
def known(server: Behaviour) -> KnownFile:
    sha256 = hashlib.sha256(server.content).hexdigest()
    return KnownFile("net-12.onnx", sha256, len(server.content), (server.url,), "a small network")


@pytest.mark.parametrize("name", ["net-12", "net-12.onnx"])
def test_by_name(name: str, known: KnownFile, tmp_path: Path) -> None:
    found = acquire_model(name, tmp_path / "models", known_files=(known,))
    assert found.path == tmp_path / "models/net-12.onnx"
    assert (found.sha256, found.known, found.downloaded) == (known.sha256, known, True)
    again = acquire_model(name, tmp_path / "models", known_files=(known,))
    assert not again.downloaded
    assert again.to_json()["known"] == {"name": "net-12.onnx", "what": "a small network"}


def test_by_address(server: Behaviour, known: KnownFile, tmp_path: Path) -> None:
    found = acquire_model(server.url, tmp_path / "my.onnx", sha256=known.sha256.upper(), known_files=())
    assert found.path == tmp_path / "my.onnx"
    assert found.known is None


def test_a_file_is_recognized_by_its_hash_under_any_name(
    known: KnownFile, server: Behaviour, tmp_path: Path
) -> None:
    path = tmp_path / "downloaded (1).onnx"
    path.write_bytes(server.content)
    found = acquire_model(str(path), tmp_path, known_files=(known,))
    assert (found.path, found.known, found.downloaded) == (path, known, False)
    assert server.requests == []
    with pytest.raises(InputError, match="expected 0000"):
        acquire_model(str(path), tmp_path, sha256="0" * 64)


def test_a_pointer_is_told_from_a_model(known: KnownFile, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{known.sha256}\nsize 1\n")
    with pytest.raises(InputError, match=r"is a Git LFS pointer, .*prepare model net-12.onnx downloads it"):
        acquire_model(str(path), tmp_path, known_files=(known,))


def test_what_is_no_model_does_not_stay(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login page, from an address that needs no hash because it is encrypted; this one pretends to be."""
    server.content = b"<html>please log in</html>"
    monkeypatch.setattr("quantize.acquire.download.check_address", lambda url, *, trusted: None)
    with pytest.raises(InputError, match="ONNX"):
        acquire_model(server.url, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("source", "sha256", "message"),
    [
        ("net-13", None, "net-13: is neither a file here, nor an address .* known are net-12.onnx"),
        ("net-12", "xyz", "--sha256 xyz: expected 64 hexadecimal digits"),
        ("net-12", "0" * 64, "--sha256 0000.*: net-12.onnx has"),
        ("https://example.org/", None, "becomes part of paths"),
        ("https://example.org/a%2f..%2fb", None, "becomes part of paths"),
    ],
)
def test_mistakes(source: str, sha256: str | None, message: str, known: KnownFile, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        acquire_model(source, tmp_path, sha256=sha256, known_files=(known,))


# As the manifest of the zoo has them; see `known_files`.
ZOO = {
    "mobilenetv2-12.onnx": ("c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5", 13_964_571),
    "mobilenetv2-12-int8.onnx": (
        "cc028fe6cae7bc11a4ff53cfc9b79c920e8be65ce33a904ec3e2a8f66d77f95f",
        3_655_033,
    ),
    "mobilenetv2-12-qdq.onnx": (
        "41a36090dafe98f4ad8f9b7fe0b218c56ac3c031e547f0367c30655d2702bffe",
        3_593_903,
    ),
    "mobilenetv2-10.onnx": ("0e7c0aa4bc74650386fa1d2c84705753de7c2bdb21909ada5c59154bb429e092", 13_963_115),
    "mobilenetv2-7.onnx": ("c1c513582d56afceff8516c73804e484c81c6a830712ab6d682253f4a3cd042f", 14_246_826),
}


def test_the_zoos_files_are_known() -> None:
    assert {file.name: (file.sha256, file.size_bytes) for file in KNOWN_FILES} == ZOO
    for file in KNOWN_FILES:
        assert known_by_name(file.name.removesuffix(".onnx")) is known_by_hash(file.sha256) is file
        assert file.urls
        # Each address ends in the name, so that none belongs to another file.
        assert all(url.startswith("https://") and url.endswith(f"/{file.name}") for url in file.urls)


def test_the_help_names_every_known_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "model", "--help"]) == 0
    words = capsys.readouterr().out.split()
    assert {file.name.removesuffix(".onnx") for file in KNOWN_FILES} <= set(words)


@pytest.mark.parametrize(
    "address",
    ["https://[bad/x.onnx", "https://host:port/x.onnx", "https://host:0/x.onnx", "ftp://host/x.onnx"],
)
def test_what_is_no_address(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no address to download from"):
        acquire_model(address, tmp_path)


@pytest.mark.parametrize("address", ["https://host/ä.onnx", "https://host/a b.onnx", "https://h/a\n.onnx"])
def test_characters_that_no_address_has(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has characters that no address has"):
        acquire_model(address, tmp_path / "x.onnx")


def test_an_address_longer_than_any_file_name(server: Behaviour, known: KnownFile, tmp_path: Path) -> None:
    signed = f"{server.url}?signature={'a' * 5000}"
    found = acquire_model(signed, tmp_path, sha256=known.sha256)
    assert found.path == tmp_path / "net.onnx"
