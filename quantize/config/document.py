"""YAML text → a plain mapping and the line of every field.

The text is not trusted: only plain data is built, its size is bounded, and a field that is written twice is
an error instead of the last one winning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from quantize.errors import InputError

__all__ = ["Document", "read_document"]

Location = tuple[str, ...]

# The longest configuration of the 1.x examples has 9 kB. A megabyte leaves room for long `op_wise` tables.
_LARGEST_FILE_BYTES = 1_000_000

# Aliases let nine short lines stand for a thousand million values ("billion laughs"): bound what the text
# expands to.
_MOST_ALIASES = 100
_MOST_NODES = 100_000

# The schema itself goes eight levels deep.
_DEEPEST = 50

_MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Document:
    """A configuration as it was written.

    Attributes:
        content: the parsed mapping. Take `copied()` to change it.
        origin: the file it came from, None for one that was made in memory.
        lines: dotted field, as a tuple of keys and positions → its line in the file, counted from 1.
    """

    content: Mapping[str, Any]
    origin: Path | None = None
    lines: Mapping[Location, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call it."""
        return "configuration" if self.origin is None else self.origin.name

    @property
    def folder(self) -> Path:
        """What relative paths are relative to: the file's folder, or the working directory without a file."""
        return Path.cwd() if self.origin is None else self.origin.parent

    def copied(self) -> dict[str, Any]:
        """A copy of the content, free to be changed: what an alias made one object is two in it."""
        copied: dict[str, Any] = _unshared(self.content)
        return copied

    def where(self, location: Location) -> str:
        """`file.yaml:12` for a field, or for the nearest field around it that is in the file."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.name}:{self.lines[location[:length]]}"
        return self.name


def read_document(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        InputError: the file cannot be read, is not UTF-8, is not one mapping of text keys, holds a field
            twice, or expands to more than a configuration could need.
    """
    text = _read_text(path)
    lines: dict[Location, int] = {}
    try:
        _limit_events(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise InputError(f"{path}: the file is empty; start from a copy of configs/mobilenetv2.yaml")
        if not isinstance(root, yaml.MappingNode):
            raise InputError(f"{path}: expected fields such as `model:`, got a list or a single value")
        _limit_size(root, path)
        _check_fields(root, (), lines, path)
        content = yaml.SafeLoader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise InputError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{path}: the values are nested too deeply for a configuration") from error
    return Document(content, path.absolute(), lines)


def _unshared(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list | tuple) else value


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the YAML file itself")
        size_bytes = path.stat().st_size
        if size_bytes > _LARGEST_FILE_BYTES:
            raise InputError(
                f"{path}: {size_bytes} bytes is too large for a configuration; is it the right file?"
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the path of a YAML configuration") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _limit_events(text: str, path: Path) -> None:
    """Stop at the first sign of a text that is made to cost time: PyYAML needs seconds for 5000 brackets."""
    aliases = depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > _MOST_ALIASES:
            raise InputError(f"{path}: more than {_MOST_ALIASES} aliases (`*name`); write the values out")
        if depth > _DEEPEST:
            raise InputError(f"{path}: nested too deeply for a configuration; check brackets and indentation")


def _limit_size(root: yaml.Node, path: Path) -> None:
    """Refuse what contains itself or expands to too much. The work grows with the text, not with that."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in open_nodes:
            raise InputError(
                f"{path}:{node.start_mark.line + 1}: an anchor (`&name`) contains itself; write it out"
            )
        if key not in sizes:
            open_nodes.add(key)
            sizes[key] = 1 + sum(size(child) for child in _children(node))
            open_nodes.remove(key)
        return sizes[key]

    total = size(root)
    if total > _MOST_NODES:
        raise InputError(
            f"{path}: expands to {total} values; at most {_MOST_NODES} are accepted: use fewer aliases"
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_fields(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    """Record the line of every field below `node`; refuse keys that are not text, and repeated ones."""
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            inside = (*location, str(index))
            lines[inside] = child.start_mark.line + 1
            _check_fields(child, inside, lines, path)
    if not isinstance(node, yaml.MappingNode):
        return
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE_TAG:
            continue
        if key.tag != "tag:yaml.org,2002:str":
            written = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
            raise InputError(f"{path}:{line}: field names are text, got {written!r}; put quotes around it")
        if key.value in first_lines:
            dotted = ".".join((*location, key.value))
            raise InputError(
                f"{path}:{line}: {dotted} is given twice, "
                f"the first time in line {first_lines[key.value]}; keep one"
            )
        first_lines[key.value] = line
        inside = (*location, key.value)
        lines[inside] = line
        _check_fields(value, inside, lines, path)
