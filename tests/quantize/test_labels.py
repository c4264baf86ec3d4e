from __future__ import annotations

from pathlib import Path

import pytest

from quantize.errors import InputError
from quantize.labels import Label, read_labels


def test_wnid_and_name(tmp_path: Path) -> None:
    path = tmp_path / "synset.txt"
    path.write_text(
        "\ufeffn01440764 tench, Tinca tinca\r\n\nn01443537\nzero\nn0144 not an id\n", encoding="utf-8"
    )
    assert read_labels(path, 4) == (
        Label("n01440764", "tench, Tinca tinca"),
        Label("n01443537", "n01443537"),
        Label(None, "zero"),
        Label(None, "n0144 not an id"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no names"),
        (b"a\nb\n", "names 2 classes, but the model has 3"),
        (b"\xff\n", "not a UTF-8"),
    ],
)
def test_wrong_lists(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_labels(path, 3)
