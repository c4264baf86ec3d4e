"""A finished model for other targets: ORT format, raw pixels as input, a repository for inference servers."""

from __future__ import annotations

from quantize.exporting.model_repository import Repository, export_repository
from quantize.exporting.ort_format import OrtExport, export_ort
from quantize.exporting.raw_pixels import PixelsExport, export_pixels

__all__ = [
    "OrtExport",
    "PixelsExport",
    "Repository",
    "export_ort",
    "export_pixels",
    "export_repository",
]
