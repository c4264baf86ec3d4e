"""Which addresses may be asked, and what some of them give instead of a file."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from quantize.errors import InputError


def check_address(url: str, *, trusted: bool) -> None:
    """Without a hash, only an encrypted connection says that nobody has changed the file on its way.

    Args:
        url: an address.
        trusted: whether the content has a hash to be checked by.

    Raises:
        InputError: it is none, or it is not encrypted and would have to be.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an end, or a port that is no number
        whole = False
    if not whole:
        raise InputError(f"{url}: is no address to download from; it begins with https://")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"{url}: has characters that no address has; write them as %20 and the like")
    if parts.scheme == "http" and not trusted:
        raise InputError(f"{url}: is not encrypted, so that its content needs a --sha256; or use https")


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections only to what could have been asked for in the first place."""

    def __init__(self, *, trusted: bool) -> None:
        self.trusted = trusted

    def redirect_request(  # noqa: PLR0917 (the base class's arguments)
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Called for each step.

        Raises:
            InputError: it leads to another scheme, or out of encryption.
        """
        check_address(newurl, trusted=self.trusted)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def lfs_pointer(path: Path) -> str | None:
    """The SHA-256 that a Git LFS pointer stands for; None for any other file."""
    with path.open("rb") as stream:
        beginning = stream.read(512)
    if not beginning.startswith(b"version https://git-lfs.github.com/spec/"):
        return None
    lines = dict(line.partition(b" ")[::2] for line in beginning.splitlines())
    return lines.get(b"oid", b"").decode("ascii", "replace").removeprefix("sha256:")
