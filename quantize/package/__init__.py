"""Model Zoo packages: archive with sample data, manifest entry, README row and sentence, model card."""

from __future__ import annotations

from quantize.package.build import Package, Request, make_package, write_packages

__all__ = ["Package", "Request", "make_package", "write_packages"]
