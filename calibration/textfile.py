"""Text files of names, a line each, that are read as a whole."""

from __future__ import annotations

from pathlib import Path

from calibration.errors import InputError
from calibration.regular import read_regular

# A million names of 250 characters; ImageNet's list of 50,000 has 1.5 MB.
LARGEST_LIST_BYTES = 1 << 28


def read_lines(path: Path, *, any_bytes: bool = False) -> list[str]:
    """Lines of a UTF-8 text file without their ends; a byte-order mark is dropped.

    Args:
        path: the file.
        any_bytes: take bytes that are no UTF-8 as Python takes those of file names (`os.fsdecode`), because
            the lines are file names.

    Raises:
        InputError: it cannot be read, is no text, or is too large.
    """
    try:
        content = read_regular(path, limit_bytes=LARGEST_LIST_BYTES, what="a list of names")
        text = content.decode("utf-8-sig", errors="surrogateescape" if any_bytes else "strict")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file: give the list of images and labels") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not a UTF-8 text file (byte {error.start}): is it the right file?"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if "\0" in text:  # other control characters may be part of file names
        raise InputError(f"{path}: is not a UTF-8 text file (byte {content.index(0)}): is it the right file?")
    # Only real line ends: str.splitlines would also split names at characters such as U+2028 and form feed.
    return text.replace("\r\n", "\n").split("\n")
