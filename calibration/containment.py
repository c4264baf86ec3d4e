"""Symbolic links in a data folder: they may point to other places in it, and elsewhere only where asked for.

A set of images that somebody else packed can hold a link to any file of this machine, whose pixels would then
appear in a report. The data folder itself may be reached by any links; hard links are files like others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from calibration.errors import InputError, quoted


@dataclass(frozen=True)
class Containment:
    """What keeps the names of one data folder inside of it.

    Attributes:
        root: the data folder.
        follow_links: whether links may lead out of it.
    """

    root: Path
    follow_links: bool = False
    _real_root: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "_real_root", os.path.realpath(self.root))

    def check(self, path: str | Path, where: str) -> str:
        """The real path of a link, or of a folder that links may be on the way to.

        Raises:
            InputError: it is outside of the data folder, and that was not allowed; `where` stands first.
        """
        real = os.path.realpath(path)
        if not self.follow_links and not self._holds(real):
            name = os.path.relpath(path, self.root)
            raise InputError(
                f"{where}: {quoted(name)} is a link out of the data folder, to {quoted(real)}: copy what it "
                "points to, or allow such links with --follow_links (images.follow_links: true)"
            )
        return real

    def _holds(self, real: str) -> bool:
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)
