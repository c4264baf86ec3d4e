"""The labels of ILSVRC2012's validation images, from any of the files that people have them in.

ILSVRC numbers its classes from 1 in an order of its own (1 is the kit fox); models number them from 0 in the
order of their WordNet ids (0 is the tench). Files that look alike mean different things, so what cannot be
told apart is refused.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.regular import open_regular
from calibration.textfile import read_lines
from quantize.acquire.matlab import MatlabError, Value, read_structs
from quantize.errors import InputError
from quantize.labels import Label, read_labels

CLASSES = 1000

_DEVKIT_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_DEVKIT_META = "data/meta.mat"

# Both are below 1 MiB in the official kit.
_DEVKIT_LIMIT_BYTES = 1 << 24


@dataclass(frozen=True)
class GroundTruth:
    """Labels by image.

    Attributes:
        by_name: file name → class index from 0; empty if the source only has an order.
        in_order: class index of image 1, 2, …; empty if the source has names.
        labels: names of the classes in label order; empty if the source does not tell.
        source: where they are from, for people.
    """

    by_name: Mapping[str, int]
    in_order: Sequence[int]
    labels: Sequence[Label]
    source: str

    def __len__(self) -> int:
        return len(self.by_name) or len(self.in_order)


def read_ground_truth(path: Path, synsets: Path | None) -> GroundTruth:
    """Reads `name label` lines, or one ILSVRC number a line.

    Args:
        path: the file.
        synsets: for numbers, lines `wnid name` in the order of the numbers.

    Raises:
        InputError: a line is malformed, or the meaning of the numbers is not known.
    """
    lines = [(number, line.split()) for number, line in enumerate(read_lines(path), start=1) if line.strip()]
    if not lines:
        raise InputError(f"--ground_truth {path}: is empty; give one line for each image")
    if all(len(words) == 1 for _, words in lines):
        if synsets is None:
            raise InputError(
                f"--ground_truth {path}: holds ILSVRC's own numbers, which are not labels; give the --devkit "
                "that it is from, or the --synsets in the order of these numbers"
            )
        numbers = [_number(path, number, words[0]) for number, words in lines]
        return _numbered(numbers, read_labels(synsets), f"{path} and {synsets}")
    if synsets is not None:
        raise InputError(f"--synsets has no effect: {path} has labels already; leave it out")
    return GroundTruth(_named(path, lines), (), (), str(path))


def read_devkit(path: Path) -> GroundTruth:
    """Reads the official development kit, `ILSVRC2012_devkit_t12.tar.gz`.

    Raises:
        InputError: it is no such archive.
    """
    members = _members(path, (_DEVKIT_TRUTH, _DEVKIT_META))
    text = members[_DEVKIT_TRUTH].decode("ascii", "replace")
    words = [word for word in text.split("\n") if word.strip()]
    numbers = [_number(path, number, word.strip()) for number, word in enumerate(words, start=1)]
    return _numbered(numbers, _meta_labels(path, members[_DEVKIT_META]), str(path))


def _named(path: Path, lines: Sequence[tuple[int, list[str]]]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for number, words in lines:
        where = f"--ground_truth {path}, line {number}"
        if len(words) != 2:
            raise InputError(f"{where}: expected 'name label', got {' '.join(words)!r}")
        name = words[0].rpartition("/")[2]
        if name in labels:
            raise InputError(f"{where}: {name!r} is listed twice; remove one of the two")
        labels[name] = _number(path, number, words[1])
    if max(labels.values()) >= CLASSES:
        raise InputError(
            f"--ground_truth {path}: label {max(labels.values())} is no class of 0 to {CLASSES - 1}; are "
            "these ILSVRC's own numbers, from 1? Give the --devkit instead"
        )
    return labels


def _numbered(numbers: Sequence[int], synsets: Sequence[Label], source: str) -> GroundTruth:
    """ILSVRC number → WordNet id → its place among all of them."""
    wnids = [label.wnid for label in synsets]
    if any(wnid is None for wnid in wnids) or len(set(wnids)) != len(wnids):
        raise InputError(f"{source}: every class needs a WordNet id (n01440764) of its own")
    if len(wnids) > 1 and wnids == sorted(map(str, wnids)):
        raise InputError(
            f"{source}: the synsets are sorted, which is the order of labels, not of ILSVRC's numbers (1 is "
            "n02119789, the kit fox); give the --devkit instead"
        )
    if min(numbers) < 1 or max(numbers) > len(wnids):
        raise InputError(
            f"{source}: numbers run from {min(numbers)} to {max(numbers)}, but there are {len(wnids)} synsets"
        )
    ordered = sorted(synsets, key=lambda label: str(label.wnid))
    index_of = {label.wnid: index for index, label in enumerate(ordered)}
    return GroundTruth({}, [index_of[wnids[number - 1]] for number in numbers], ordered, source)


def _meta_labels(path: Path, content: bytes) -> list[Label]:
    """The classes of `meta.mat` in the order of their numbers; those that have children are no classes."""
    try:
        table = read_structs(content, "synsets")
        rows = sorted(
            (_whole(row["ILSVRC2012_ID"]), _text(row["WNID"]), _text(row["words"]))
            for row in table
            if _whole(row["num_children"]) == 0
        )
    except KeyError as error:
        raise InputError(f"--devkit {path}: its {_DEVKIT_META} has no {error}; download it again") from error
    except MatlabError as error:
        raise InputError(
            f"--devkit {path}: its {_DEVKIT_META} cannot be read ({error}); download it again"
        ) from error
    if [number for number, _, _ in rows] != list(range(1, len(rows) + 1)):
        raise InputError(f"--devkit {path}: its {_DEVKIT_META} does not number the classes from 1")
    # Names become lines of a file.
    return [Label(wnid, " ".join(words.split())) for _, wnid, words in rows]


def _whole(value: Value) -> int:
    """MATLAB keeps whole numbers as doubles, too."""
    if not isinstance(value, int | float) or value != value // 1:
        raise MatlabError(f"{value!r} is no whole number")
    return int(value)


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise MatlabError(f"{value!r} is no text")
    return value


def _members(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Two small files of an archive, read in memory; nothing is extracted."""
    found: dict[str, bytes] = {}
    try:
        # Not by its name: tarfile would wait for a pipe, and read a device without end.
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:*") as tar:
            for entry in tar:
                name = next((name for name in names if f"/{entry.name}".endswith(f"/{name}")), None)
                content = tar.extractfile(entry) if name is not None and entry.isfile() else None
                if name is None or content is None:
                    continue
                if entry.size > _DEVKIT_LIMIT_BYTES:
                    raise InputError(f"{name} has {entry.size} bytes; it is another archive")
                found[name] = content.read()
    except InputError as error:
        raise InputError(f"--devkit {path}: {error}") from None
    except FileNotFoundError as error:
        raise InputError(f"--devkit {path}: does not exist") from error
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(
            f"--devkit {path}: is no readable archive ({one_line(error)}); download it again"
        ) from error
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"--devkit {path}: holds no {missing[0]}; give ILSVRC2012_devkit_t12.tar.gz")
    return found


def one_line(error: BaseException) -> str:
    """The first line of a message: tarfile names every compression that it has tried below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(":")


def _number(path: Path, line: int, word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 9):
        raise InputError(f"{path}, line {line}: {word!r} is no number of a class; write whole numbers")
    return int(word)
