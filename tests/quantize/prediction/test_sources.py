from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from quantize.errors import InputError
from quantize.prediction import find_images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/er/c.jpeg", "[x].png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Path("photos")


def found(*words: str, stdin: bytes = b"", folder: Path = Path()) -> list[str]:
    return [path.as_posix() for path in find_images(words, io.BytesIO(stdin), folder)]


def test_a_folder_means_its_images_to_any_depth(photos: Path) -> None:
    (photos / "deep" / "up").symlink_to(photos.absolute())
    assert found("photos") == [
        "photos/[x].png",
        "photos/a.png",
        "photos/b.JPG",
        "photos/deep/er/c.jpeg",
    ]


def test_patterns_and_each_file_once(photos: Path) -> None:
    assert found("photos/**/*.jpeg", "photos/a.*", "photos/a.png") == [
        "photos/deep/er/c.jpeg",
        "photos/a.png",
    ]


def test_a_file_whose_name_looks_like_a_pattern(photos: Path) -> None:
    assert found("photos/[x].png") == ["photos/[x].png"]


def test_a_missing_file_is_left_for_the_reader_of_images_to_report(photos: Path) -> None:
    assert found("gone.png", "photos/a.png") == ["gone.png", "photos/a.png"]


@pytest.mark.parametrize(
    ("word", "message"), [("photos/*.gif", "matches no file"), ("empty", "holds no image")]
)
def test_words_that_mean_nothing(word: str, message: str, photos: Path) -> None:
    Path("empty").mkdir()
    with pytest.raises(InputError, match=message):
        found(word)


@pytest.mark.parametrize("stdin", [b"photos/a.png\r\n\nphotos/b.JPG", b"photos/a.png\0photos/b.JPG\0"])
def test_names_from_standard_input(stdin: bytes, photos: Path) -> None:
    assert found("-", stdin=stdin) == ["photos/a.png", "photos/b.JPG"]


def test_names_that_are_no_utf8(photos: Path) -> None:
    (name,) = find_images(["-"], io.BytesIO(b"caf\xe9.png\n"), Path())
    assert os.fsencode(name) == b"caf\xe9.png"


def test_an_image_from_standard_input(tmp_path: Path) -> None:
    content = b"\x89PNG\r\n\x1a\n and so on"
    (path,) = find_images(["-"], io.BytesIO(content), tmp_path)
    assert path == tmp_path / "standard-input"
    assert path.read_bytes() == content


def test_empty_standard_input() -> None:
    with pytest.raises(InputError, match="standard input: is empty"):
        found("-")
