"""Names that become parts of paths, links and configurations, and so must be plain."""

from __future__ import annotations

import re

from quantize.errors import InputError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def is_plain(name: str) -> bool:
    """At most 100 letters, digits and `. _ + -`, a letter or digit first."""
    return _PLAIN.fullmatch(name) is not None


def require_plain(name: str, where: str) -> str:
    """Returns a name that is plain.

    Raises:
        InputError: it is not; `where` stands first in the message.
    """
    if not is_plain(name):
        raise InputError(
            f"{where}: {name!r} becomes part of paths; use letters, digits and . _ + - only, 100 at most"
        )
    return name
