"""What a configuration's text may not do: cost time or memory, or mean something else than it says.

PyYAML's safe loader builds plain data only, but reads YAML 1.1, in which `1:30` is 90, `010` is 8 and
`2024-01-02` a date; and it has no limits. Every error names the line, and the field where there is one.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from calibration.regular import read_regular
from quantize.errors import InputError, quoted

__all__ = ["DEEPEST", "MOST_ALIASES", "MOST_NODES", "check_scalar", "limit_events", "limit_size", "read_text"]

# The longest configuration of the 1.x examples has 9 kB. A megabyte leaves room for long `op_wise` tables.
_LARGEST_FILE_BYTES = 1_000_000

# Aliases let nine short lines stand for a thousand million values ("billion laughs"): bound what the text
# expands to. PyYAML needs 50 us a value; a network of 4,000 operators has 30,000 in an `op_wise` table.
MOST_ALIASES = 100
MOST_NODES = 30_000

# The schema itself goes eight levels deep.
DEEPEST = 50

# Names of operators and paths are the longest values; Linux allows paths of 4096 bytes.
_LONGEST_VALUE_CHARACTERS = 5000

# What the reader of PyYAML refuses, too, without saying in which line.
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

_TAGS = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_TAGS}{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))
# 64-bit integers have 19 digits; nothing in a configuration counts further.
_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]{0,24}|0x[0-9a-fA-F_]{1,16})")


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        InputError: it cannot be read, is too large, or is not UTF-8 text.
    """
    try:
        content = read_regular(path, limit_bytes=_LARGEST_FILE_BYTES, what="a configuration")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the path of a YAML configuration") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give the YAML file itself") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if content.startswith(_UTF_16):
        raise InputError(f"{path}: is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    wrong = _NOT_TEXT.search(text)
    if wrong:
        line = text.count("\n", 0, wrong.start()) + 1
        raise InputError(
            f"{path}:{line}: not valid YAML: the character U+{ord(wrong.group()):04X} is not text; remove it"
        )
    return text


def limit_events(text: str, path: Path) -> None:
    """Stops at the first sign of a text that is made to cost time: PyYAML needs seconds for 5000 brackets.

    Raises:
        InputError: too many aliases or values, too deep, or too long a value.
        yaml.YAMLError: it is no YAML.
    """
    aliases = depth = values = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        values += isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        where = f"{path}:{1 if event.start_mark is None else event.start_mark.line + 1}"
        if aliases > MOST_ALIASES:
            raise InputError(f"{where}: more than {MOST_ALIASES} aliases (`*name`); write the values out")
        if values > MOST_NODES:
            raise InputError(f"{where}: more than {MOST_NODES} values; is it the right file?")
        if depth > DEEPEST:
            raise InputError(
                f"{where}: nested too deeply for a configuration; check brackets and indentation"
            )
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST_VALUE_CHARACTERS:
            raise InputError(
                f"{where}: {len(event.value)} characters are too many for a value; at most "
                f"{_LONGEST_VALUE_CHARACTERS} are accepted"
            )


def limit_size(root: yaml.MappingNode, path: Path) -> None:
    """Refuses what contains itself or expands to too much. The work grows with the text, not with that.

    Raises:
        InputError: it does.
    """
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
    if total > MOST_NODES:
        largest, _ = max(root.value, key=lambda pair: size(pair[1]))
        raise InputError(
            f"{path}:{largest.start_mark.line + 1}: expands to {total} values; at most {MOST_NODES} are "
            "accepted: use fewer aliases"
        )


def check_scalar(node: yaml.Node, where: str) -> None:
    """Refuses tags, and values that YAML 1.1 reads as something else than what is written.

    Args:
        node: any node; of lists and mappings the tag is checked.
        where: `file:line: field: `, for the message.

    Raises:
        InputError: it is one of those.
    """
    kind = node.tag.removeprefix(_TAGS)
    written = quoted(node.value) if isinstance(node, yaml.ScalarNode) else ""
    if kind == "timestamp":
        raise InputError(f"{where}{written} is a date to YAML, and no field is one; put quotes around it")
    if node.tag not in _PLAIN_TAGS:
        raise InputError(f"{where}the tag {quoted(kind)} is no plain data; write the value without it")
    if not isinstance(node, yaml.ScalarNode):
        return
    value = node.value
    if kind == "int" and not _WHOLE_NUMBER.fullmatch(value):
        meant = "" if len(value) > 20 else f" as {yaml.SafeLoader('').construct_yaml_int(node)}"
        raise InputError(
            f"{where}YAML reads {written}{meant}; write a plain number, or put quotes around text"
        )
    if kind == "float" and ":" in value:
        raise InputError(f"{where}YAML reads {written} as a number of base 60; put quotes around text")
    if kind == "float" and value.lower().lstrip("+-") in (".nan", ".inf"):
        raise InputError(f"{where}expected a finite number, got {written}")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
