"""Finds a configuration by name and reads it."""

from __future__ import annotations

import os
from pathlib import Path

from quantize.config.config import Config
from quantize.config.document import read_document
from quantize.config.suggest import did_you_mean
from quantize.errors import InputError, quoted

__all__ = ["SHIPPED_FOLDER", "find_config", "load_config"]

# The configurations that come with the project.
SHIPPED_FOLDER = Path(__file__).resolve().parents[2] / "configs"

_SUFFIXES = (".yaml", ".yml")

_LONGEST_SHOWN = 200


def find_config(name: str | Path) -> Path:
    """The file that is meant.

    Args:
        name: a path (`~` and environment variables expand), relative to the working directory; a relative one
            that does not exist is also looked for in the project and in its `configs/`, with or without its
            suffix.

    Returns:
        A path that exists. It may still be a folder or unreadable.

    Raises:
        InputError: there is no such file; the message names the nearest one that ships.
    """
    written = Path(os.path.expandvars(os.path.expanduser(name)))
    candidates = [written]
    if not written.is_absolute():
        candidates += [
            SHIPPED_FOLDER.parent / written,
            SHIPPED_FOLDER / written,
            *(SHIPPED_FOLDER / f"{written}{suffix}" for suffix in _SUFFIXES),
        ]
    for candidate in candidates:
        if str(name).strip() and _is_there(candidate):
            return candidate
    shipped = sorted(path.name for path in SHIPPED_FOLDER.glob("*.yaml"))
    raise InputError(
        f"{_shown(name)}: no such configuration, here or in configs/; {did_you_mean(written.name, shipped)}"
    )


def _is_there(path: Path) -> bool:
    """Whether a name means something; what may not be looked at is there, and says so when it is read."""
    try:
        path.stat()
    except PermissionError:
        return True
    except (OSError, ValueError):  # also names that are too long or hold a NUL
        return False
    return True


def _shown(name: str | Path) -> str:
    text = str(name)
    return text if len(text) <= _LONGEST_SHOWN else quoted(text)


def load_config(path: str | Path) -> Config:
    """Read and validate a configuration.

    Args:
        path: as for `find_config`.

    Raises:
        InputError: the file can not be found, read or parsed, or a field in it is wrong; one line that names
            the file, the line, the field, the value and the cure.
    """
    return Config.from_document(read_document(find_config(path)))
