"""A verification made of numbers, without running a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantize.benchmark import Latency
from quantize.kernels import Coverage
from quantize.metrics import Counts, Equality, Fidelity
from quantize.portability import PairBound, Portability
from quantize.report.pages import render_html
from quantize.statistics import PairedOutcomes
from quantize.target import PORTABLE, Target
from quantize.throughput import Throughput
from quantize.verify import Artefact, Decline, FileFacts, Verification
from tests.quantize.report.samples import HOSTILE, TAME, report, thumbnails

_EXACT = Portability(Equality(400, 400, 0.0), PairBound(36, 17))
Maker = Callable[..., Verification]


def _facts(name: str, top1: int, top5: int, coverage: Coverage, size_bytes: int) -> FileFacts:
    counts = Counts(images=400, top1_correct=top1, top5_correct=top5, top1_ties=0)
    latency = Latency(calls=30, median_ms=size_bytes / 1e6, p90_ms=20.0, p99_ms=30.0)
    return FileFacts(Path(f"{name}.onnx"), size_bytes, "0" * 64, counts, coverage, latency)


def _artefact(name: str, lost: int, won: int, stray: tuple[str, ...], nothing: bool) -> Artefact:
    integer = {} if nothing else {"QGemm": 1, "QLinearConv": 52 - len(stray)}
    floating = {"Conv": len(stray)} if stray else {}
    coverage = Coverage(integer, floating, 1, 1, stray)
    top1 = Decline.from_outcomes(PairedOutcomes(336 - lost, lost, won, 64 - won))
    top5 = Decline.from_outcomes(PairedOutcomes(390, 1, 0, 9))
    facts = _facts(name, 336 - lost + won, 390, coverage, 3_671_093)
    return Artefact(facts, top1, top5, Fidelity(400, 390, 3.2), 1.47)


@pytest.fixture(scope="session")
def make_verification() -> Maker:
    """Builds one: `lost` and `won` images of 400 (fp32: 336 right), names of `stray` float operators."""

    def make(
        *,
        lost: int = 3,
        won: int = 1,
        qdq_lost: int | None = None,
        stray: tuple[str, ...] = (),
        nothing: bool = False,
        formats: tuple[str, ...] = ("QOperator", "QDQ"),
        warnings: tuple[str, ...] = (),
        portability: Portability = _EXACT,
        target: Target = PORTABLE,
        profile_ms: dict[str, float] | None = None,
        fixed_batch: int | None = None,
        timed_batches: bool = True,
    ) -> Verification:
        losses = {"QOperator": lost, "QDQ": lost if qdq_lost is None else qdq_lost}
        fp32 = Coverage({}, {"Conv": 52, "Gemm": 1}, 0, 0, tuple(f"conv_{k}" for k in range(53)))
        return Verification(
            fp32=replace(_facts("fp32", 336, 391, fp32, 13_966_462), profile_ms=profile_ms),
            artefacts={
                name: replace(_artefact(name, losses[name], won, stray, nothing), portability=portability)
                for name in formats
            },
            formats_equality=Equality(400, 400, 0.0) if len(formats) > 1 else None,
            images=400,
            classes=1000,
            latency_rounds=30,
            latency_images=1,
            warnings=warnings,
            target=target,
            throughput=_throughput(formats, fixed_batch) if timed_batches else None,
        )

    return make


def _throughput(formats: tuple[str, ...], fixed_batch: int | None) -> Throughput:
    names = ("fp32", *formats)
    rates = {name: 120.0 + 130.0 * place for place, name in enumerate(names)}
    ratios = {name: rate / 120.0 for name, rate in rates.items()}
    return Throughput(fixed_batch or 32, fixed_batch is not None, 2, rates, ratios)


@pytest.fixture(scope="session")
def tame(make_verification: Maker) -> dict[str, Any]:
    return report(make_verification(), TAME)


@pytest.fixture(scope="session")
def hostile(make_verification: Maker) -> dict[str, Any]:
    return report(make_verification(), HOSTILE)


@pytest.fixture(scope="session")
def tame_page(tame: dict[str, Any]) -> str:
    """Drawn once: its charts take a second."""
    return render_html(tame, thumbnails(24))


@pytest.fixture(scope="session")
def hostile_page(hostile: dict[str, Any]) -> str:
    return render_html(hostile, thumbnails(len(HOSTILE)))
