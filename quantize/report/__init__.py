"""The writers: one verification, told as JSON to programs and as a table and a verdict to people."""

from __future__ import annotations

from quantize.report.build import build_report, report_text
from quantize.report.context import ImageSetFacts, RunContext, TrialLike
from quantize.report.terminal import render, show
from quantize.report.verdict import Verdict, judge

__all__ = [
    "ImageSetFacts",
    "RunContext",
    "TrialLike",
    "Verdict",
    "build_report",
    "judge",
    "render",
    "report_text",
    "show",
]
