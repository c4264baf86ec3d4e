"""The section `images`, which is ours: how far image files are trusted, and what becomes of bad ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quantize.config.fields import Section

__all__ = ["ImageFiles", "OnBadImage"]

OnBadImage = Literal["stop", "skip"]


class ImageFiles(Section):
    """Applies to the images of every section."""

    on_bad_image: OnBadImage = Field(
        default="stop",
        description="What a file does that cannot be decoded: stop, before any work, or skip; more than 1 % "
        "skipped stops as well. Default: stop.",
    )
    follow_links: bool = Field(
        default=False,
        description="Whether symbolic links in a data folder may lead out of it. Default: false.",
    )
