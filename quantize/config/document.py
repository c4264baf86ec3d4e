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

from quantize.config.untrusted import check_scalar, limit_events, limit_size, read_text
from quantize.errors import InputError, quoted

__all__ = ["Document", "read_document"]

Location = tuple[str, ...]

_MERGE_TAG = "tag:yaml.org,2002:merge"
_TEXT_TAG = "tag:yaml.org,2002:str"


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
    text = read_text(path)
    lines: dict[Location, int] = {}
    try:
        limit_events(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise InputError(f"{path}: the file is empty; start from a copy of configs/mobilenetv2.yaml")
        if not isinstance(root, yaml.MappingNode):
            raise InputError(
                f"{path}:{root.start_mark.line + 1}: expected fields such as `model:`, got a list or a "
                "single value"
            )
        limit_size(root, path)
        _check_fields(root, (), lines, path)
        content = yaml.SafeLoader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        problem = " ".join(str(error.problem or error.context).split())
        raise InputError(f"{path}{line}: not valid YAML: {problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{path}: the values are nested too deeply for a configuration") from error
    return Document(content, path.absolute(), lines)


def _unshared(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_fields(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    """Records the line of every field below `node`; refuses strange or repeated keys, and strange values."""
    field = ".".join(location)
    check_scalar(node, f"{path}:{node.start_mark.line + 1}: {field}{': ' if field else ''}")
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            inside = (*location, str(index))
            lines[inside] = child.start_mark.line + 1
            _check_fields(child, inside, lines, path)
    if not isinstance(node, yaml.MappingNode):
        return
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        if key.tag == _MERGE_TAG:
            continue
        line = key.start_mark.line + 1
        name = _name(key, f"{path}:{line}")
        if name in first_lines:
            raise InputError(
                f"{path}:{line}: {_dotted(location, name)} is given twice, "
                f"the first time in line {first_lines[name]}; keep one"
            )
        first_lines[name] = line
        inside = (*location, name)
        lines[inside] = line
        _check_fields(value, inside, lines, path)
    for key, value in node.value:
        if key.tag == _MERGE_TAG:
            _check_merged(value, location, lines, path)


def _check_merged(node: yaml.Node, location: Location, lines: dict[Location, int], path: Path) -> None:
    """The same for the fields that `<<` brings in: each has the line that it is written in."""
    sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for source in sources:
        found: dict[Location, int] = {location: source.start_mark.line + 1}
        _check_fields(source, location, found, path)
        for inside, line in found.items():
            lines.setdefault(inside, line)


def _name(key: yaml.Node, where: str) -> str:
    if key.tag != _TEXT_TAG:
        written = key.value if isinstance(key, yaml.ScalarNode) else "a list or fields"
        raise InputError(f"{where}: field names are text, got {quoted(written)}; put quotes around it")
    name: str = key.value
    return name


def _dotted(location: Location, name: str) -> str:
    return ".".join((*location, quoted(name)[1:-1] if len(name) > 100 else name))
