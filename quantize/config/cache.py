"""The section `cache`, which is ours: where decoded images and fp32 results are kept between runs."""

from __future__ import annotations

from pydantic import Field

from quantize.config.fields import DataPath, Section

__all__ = ["Cache"]


class Cache(Section):
    """Changes how long a run takes, and nothing that comes out of it."""

    enabled: bool = Field(default=True, description="Whether there is one. Default: true.")
    dir: DataPath | None = Field(
        default=None, description="Its folder. Default: quantize-pipeline in $XDG_CACHE_HOME or ~/.cache."
    )
    size: float = Field(default=2.0, gt=0, le=1e6, description="The most it may take, in GB. Default: 2.")
    by_content: bool = Field(
        default=False,
        description="Tell images apart by content too, not only by path, size and times. Default: false.",
    )
