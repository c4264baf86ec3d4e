from __future__ import annotations

import errno
import hashlib
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.acquire.addresses import SafeRedirects, lfs_pointer
from quantize.acquire.download import Wanted, download
from quantize.errors import InputError, PipelineError
from tests.quantize.acquire.server import Behaviour, serving

CONTENT = np.random.default_rng(1).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Behaviour(CONTENT)) as behaviour:
        yield behaviour


def fetch(server: Behaviour, folder: Path, sha256: str | None = SHA256, path: str = "/net.onnx") -> bool:
    url = server.url.replace("/net.onnx", path)
    return download(Wanted((url,), folder / "sub" / "net.onnx", sha256), sleep=lambda seconds: None)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "sub").iterdir()}


def test_the_file_appears_with_the_right_content(server: Behaviour, tmp_path: Path) -> None:
    assert fetch(server, tmp_path)
    assert (tmp_path / "sub/net.onnx").read_bytes() == CONTENT
    assert left_in(tmp_path) == {"net.onnx"}


def test_a_second_time_nothing_is_asked(server: Behaviour, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    assert not fetch(server, tmp_path)
    assert len(server.requests) == 1


def test_a_broken_connection_goes_on_where_it_ended(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [300_000, 250_000]
    assert fetch(server, tmp_path)
    assert [request.get("Range") for request in server.requests] == [None, "bytes=300000-", "bytes=550000-"]
    assert (tmp_path / "sub/net.onnx").read_bytes() == CONTENT


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(PipelineError, match="ended after 100000 of 1000000 bytes; 100000 bytes are kept"):
        fetch(server, tmp_path)
    assert left_in(tmp_path) == {"net.onnx.part", "net.onnx.part.json"}
    server.requests.clear()
    assert fetch(server, tmp_path)
    assert [request.get("Range") for request in server.requests] == ["bytes=100000-"]
    assert left_in(tmp_path) == {"net.onnx"}


def test_a_file_that_changed_in_between_begins_anew(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(PipelineError):
        fetch(server, tmp_path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert fetch(server, tmp_path, hashlib.sha256(server.content).hexdigest())
    assert (tmp_path / "sub/net.onnx").read_bytes() == server.content


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"one"'), (True, ""), (True, 'W/"weak"')])
def test_servers_that_cannot_resume(ranges: bool, etag: str, server: Behaviour, tmp_path: Path) -> None:
    server.ranges, server.etag = ranges, etag
    server.cut_after = [400_000]
    assert fetch(server, tmp_path)
    assert (tmp_path / "sub/net.onnx").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [900_000, 0, 0, 0, 0]
    with pytest.raises(PipelineError):
        fetch(server, tmp_path)
    server.content = CONTENT[:500_000]
    assert fetch(server, tmp_path, hashlib.sha256(server.content).hexdigest())


def test_damaged_notes_mean_to_begin_anew(server: Behaviour, tmp_path: Path) -> None:
    server.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(PipelineError):
        fetch(server, tmp_path)
    (tmp_path / "sub/net.onnx.part.json").write_text("[", encoding="utf-8")
    server.requests.clear()
    assert fetch(server, tmp_path)
    assert "Range" not in server.requests[0]


def test_a_wrong_hash_leaves_nothing(server: Behaviour, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has SHA-256 {SHA256}, expected {'0' * 64}"):
        fetch(server, tmp_path, "0" * 64)
    assert left_in(tmp_path) == set()


def test_an_lfs_pointer_is_recognized(server: Behaviour, tmp_path: Path) -> None:
    server.content = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize 1000000\n".encode()
    )
    with pytest.raises(InputError, match="gives a Git LFS pointer instead"):
        fetch(server, tmp_path)
    path = tmp_path / "pointer"
    path.write_bytes(server.content)
    assert lfs_pointer(path) == SHA256
    path.write_bytes(b"anything else")
    assert lfs_pointer(path) is None


def test_busy_servers_are_asked_again_and_missing_files_are_not(server: Behaviour, tmp_path: Path) -> None:
    server.errors = [503, 429]
    assert fetch(server, tmp_path)
    server.requests.clear()
    server.errors = [404]
    with pytest.raises(PipelineError, match="the server answers 404"):
        fetch(server, tmp_path / "other")
    assert len(server.requests) == 1


def test_the_second_address_is_asked_when_the_first_fails(server: Behaviour, tmp_path: Path) -> None:
    server.errors = [404]
    urls = (server.url, server.url.replace("/net", "/mirror/net"))
    assert download(Wanted(urls, tmp_path / "net.onnx", SHA256), sleep=lambda seconds: None)
    assert [request["path"] for request in server.requests] == ["/net.onnx", "/mirror/net.onnx"]


def test_what_was_wrong_with_each_address_is_told(server: Behaviour, tmp_path: Path) -> None:
    server.errors = [404, 410]
    urls = (server.url, server.url.replace("/net", "/mirror/net"))
    with pytest.raises(
        PipelineError, match=r"/net\.onnx: the server answers 404.*; .*/mirror/net\.onnx: .* 410"
    ):
        download(Wanted(urls, tmp_path / "net.onnx", SHA256))


def test_a_name_that_does_not_exist_is_asked_once(tmp_path: Path) -> None:
    waited: list[float] = []
    with pytest.raises(PipelineError, match="download failed"):
        # RFC 6761: no resolver knows names below "invalid".
        download(Wanted(("https://host.invalid/x",), tmp_path / "x", SHA256), sleep=waited.append)
    assert waited == []


def test_waiting_doubles(server: Behaviour, tmp_path: Path) -> None:
    server.errors = [503] * 5
    waited: list[float] = []
    with pytest.raises(PipelineError, match="503"):
        download(Wanted((server.url,), tmp_path / "net.onnx", SHA256), sleep=waited.append)
    assert waited == [1, 2, 4, 8]


def test_what_is_too_large_is_refused_before_and_while_it_arrives(server: Behaviour, tmp_path: Path) -> None:
    for says_length in (True, False):
        server.says_length = says_length
        with pytest.raises(InputError, match="larger than the 1000 bytes allowed"):
            download(Wanted((server.url,), tmp_path / "net.onnx", SHA256), limit_bytes=1000)
        with pytest.raises(InputError, match="larger than the 999999 bytes expected"):
            download(Wanted((server.url,), tmp_path / "net.onnx", SHA256, 999_999))
        assert list(tmp_path.iterdir()) == []


def test_progress(server: Behaviour, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    wanted = Wanted((server.url,), tmp_path / "net.onnx", SHA256)
    download(wanted, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (1_000_000, 1_000_000)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "https:///x", "net.onnx"])
def test_other_schemes(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no address to download from"):
        download(Wanted((url,), tmp_path / "x", SHA256))


def test_unencrypted_addresses_need_a_hash(server: Behaviour, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not encrypted"):
        fetch(server, tmp_path, None)
    assert server.requests == []


def test_redirections(server: Behaviour, tmp_path: Path) -> None:
    server.location = server.url
    assert fetch(server, tmp_path, path="/redirect")
    server.location = "file:///etc/passwd"
    with pytest.raises(PipelineError, match="not allowed"):
        fetch(server, tmp_path / "other", path="/redirect")


@pytest.mark.parametrize("target", ["ftp://b/x", "http://b/x"])
def test_redirections_do_not_lead_out_of_encryption(target: str) -> None:
    asked = urllib.request.Request("https://a/x")
    follow = SafeRedirects(trusted=False).redirect_request
    with pytest.raises(InputError):
        follow(asked, None, 302, "Found", {}, target)
    assert follow(asked, None, 302, "Found", {}, "https://b/x") is not None


def test_another_file_of_the_name_is_not_touched(server: Behaviour, tmp_path: Path) -> None:
    target = tmp_path / "sub/net.onnx"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already, with SHA-256"):
        fetch(server, tmp_path)
    assert target.read_bytes() == b"mine"
    assert server.requests == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_refuses_is_no_broken_connection(
    number: int, function: str, server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = getattr(os, function)

    def refusing(first: Any, *more: Any) -> Any:
        # The notes are written first, in a way of their own.
        if function == "replace" and not str(first).endswith(".part"):
            return plain(first, *more)
        if function == "fsync" and not os.readlink(f"/proc/self/fd/{first}").endswith(".part"):
            return plain(first, *more)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, refusing)
    cure = "free some space" if number == errno.ENOSPC else "name another --output"
    with pytest.raises(PipelineError, match=rf"cannot write .*net\.onnx\.part: .*; {cure}$"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1


def test_a_failed_download_names_a_cure(server: Behaviour, tmp_path: Path) -> None:
    server.errors = [404]
    with pytest.raises(PipelineError, match=r"404.*; check the address and the network"):
        fetch(server, tmp_path)


def test_no_server(tmp_path: Path) -> None:
    with serving(Behaviour(b"")) as gone:
        pass
    with pytest.raises(PipelineError, match="download failed: http://127"):
        fetch(gone, tmp_path)
