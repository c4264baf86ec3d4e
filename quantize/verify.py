"""The gate: what was written is read back from disk, and measured next to the fp32 model it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from quantize.baseline import Baseline
from quantize.batches import Batch, Batches, Remembered
from quantize.benchmark import InterleavedLatency, Latency, interleaved_latency
from quantize.errors import InputError
from quantize.evaluate import Evaluation, Observer, evaluate
from quantize.judged import JudgedOutputs
from quantize.kernels import Coverage
from quantize.metrics import Counts, Equality, Fidelity, guessing_accuracy
from quantize.portability import COMPARED_IMAGES, Portability
from quantize.profiler import profile_ms
from quantize.saturation import here_line
from quantize.session import input_shape, outputs
from quantize.statistics import Interval, PairedOutcomes, absolute_decline, mcnemar_p_value, relative_decline
from quantize.target import PORTABLE, Format, Target
from quantize.throughput import Throughput, interleaved_throughput
from quantize.written import Written, read_back

Metric = Literal["top1", "top5"]
FP32 = "fp32"


@dataclass(frozen=True)
class FileFacts:
    """A model file, what it scores, what runs of it in integers, and how long a call takes."""

    path: Path
    size_bytes: int
    """Of the file and of the external data it refers to."""
    sha256: str
    counts: Counts
    coverage: Coverage
    latency: Latency
    """At batch 1, one thread, interleaved with the other models."""
    declared: Coverage | None = None
    """What the file asks to be run in integers, where ONNX Runtime's CPU kernels are not the deployment's."""
    profile_ms: Mapping[str, float] | None = None
    """Operator kind -> milliseconds of one call, where that was asked for."""

    @property
    def judged_coverage(self) -> Coverage:
        """What decides whether integers do the work: the deployment's kernels, as far as they are known."""
        return self.coverage if self.declared is None else self.declared


@dataclass(frozen=True)
class Decline:
    """How one metric changed from fp32 to int8; positive is worse."""

    outcomes: PairedOutcomes
    absolute: Interval
    relative: Interval
    p_value: float
    """Exact McNemar test of "no difference"."""

    @classmethod
    def from_outcomes(cls, outcomes: PairedOutcomes) -> Decline:
        """Compute both declines with their 95 % intervals."""
        return cls(
            outcomes, absolute_decline(outcomes), relative_decline(outcomes), mcnemar_p_value(outcomes)
        )


@dataclass(frozen=True)
class Artefact:
    """An int8 file, compared with fp32 on the same images."""

    facts: FileFacts
    top1: Decline
    top5: Decline
    fidelity: Fidelity
    speed_up: float
    """Median of the ratios fp32 time / int8 time of neighbouring calls."""
    portability: Portability = field(default_factory=Portability)
    """Whether it computes the same on every CPU."""

    def decline(self, metric: Metric) -> Decline:
        """The decline of the metric that the criterion names."""
        return self.top1 if metric == "top1" else self.top5


@dataclass(frozen=True)
class Verification:
    """Everything that was measured; the judgement is `quantize.report.verdict`'s."""

    fp32: FileFacts
    artefacts: Mapping[Format, Artefact]
    """By format, in the order given."""
    formats_equality: Equality | None
    """The logits of both formats bit for bit; None where only one was made."""
    images: int
    classes: int
    latency_rounds: int
    latency_images: int
    """Images in each timed call: 1, or the batch size that the model insists on."""
    warnings: tuple[str, ...]
    target: Target = PORTABLE
    """The deployment that the artefacts are for."""
    throughput: Throughput | None = None
    """Of all files in batches, by `FP32` and format; None where it was not measured."""


def accuracy(facts: FileFacts, metric: Metric) -> float:
    """The fraction of the images that counts as right under the metric."""
    return facts.counts.top1 if metric == "top1" else facts.counts.top5


def verify(
    fp32_path: Path,
    artefacts: Mapping[Format, Path],
    loader: Batches | Iterable[Batch],
    *,
    threads: int,
    probabilities: bool = False,
    latency_rounds: int = 30,
    latency_warmup: int = 5,
    target: Target = PORTABLE,
    profile: bool = False,
    observer: Observer | None = None,
    baseline: Baseline | None = None,
    judged: JudgedOutputs | None = None,
) -> Verification:
    """Re-load all files in fresh sessions and measure them in one pass over the images.

    Args:
        fp32_path: the model that was quantized.
        artefacts: what was made of it, one or both formats.
        loader: evaluation images [N, ...] float32 and labels [N].
        threads: how many files or batches are under way at once; every session has one thread.
        probabilities: the models end in softmax.
        latency_rounds: timed calls per model.
        latency_warmup: calls per model before that.
        target: the deployment that the artefacts are for.
        profile: measure the time of each operator kind as well.
        observer: is shown the logits of every batch; the fp32 model is called `FP32`, the others by format.
        baseline: knows what the fp32 model says about the images of this very loader.
        judged: knows what the trial said that the QDQ file is made of; where the QOperator file says the same
            of an image, the QDQ file is not run on it.

    Raises:
        InputError: a file is missing, no artefact or no image was given, or images or labels do not fit.
        EngineError: ONNX Runtime cannot load or run a file, or a model puts out NaN.
    """
    if not artefacts:
        raise InputError("verify: no int8 model was given; name at least one format")
    paths: dict[str, Path] = {FP32: fp32_path, **{str(name): path for name, path in artefacts.items()}}
    batches = loader if isinstance(loader, Batches) else _First(loader)
    files = read_back(paths, integer=set(paths) - {FP32}, declared=not target.on_cpu, workers=threads)
    found = _evaluated(
        files,
        batches,
        probabilities=probabilities,
        baseline=baseline,
        judged=judged,
        observer=observer,
        workers=threads,
    )
    image = batches.image if isinstance(batches, _First) else batches.load(0)[0][:1]
    sessions = {name: one.session for name, one in files.items()}
    classes = int(outputs(sessions[FP32], image, model=FP32).shape[1])
    timing = interleaved_latency(sessions, image, rounds=latency_rounds, warmup=latency_warmup)
    facts = {name: _facts(one, found[name], timing.latencies[name]) for name, one in files.items()}
    if profile:
        facts = {name: _profiled(fact, image) for name, fact in facts.items()}
    equality = found["QDQ"].equality.get("QOperator") if "QDQ" in found else None
    if equality is not None and equality.bit_equal:
        found |= _witnessed_together(found)
    compared = {kind: _compare(kind, facts[kind], files[kind], found, timing) for kind in artefacts}
    return Verification(
        fp32=facts[FP32],
        artefacts=compared,
        formats_equality=equality,
        images=facts[FP32].counts.images,
        classes=classes,
        latency_rounds=latency_rounds,
        latency_images=input_shape(sessions[FP32])[0] or 1,
        warnings=(
            *_emulated(target),
            *_saturating(compared, target),
            *_warnings(facts, equality, classes),
        ),
        target=target,
        throughput=interleaved_throughput(sessions, image, workers=threads),
    )


def _evaluated(
    files: Mapping[str, Written],
    batches: Batches | Iterable[Batch],
    *,
    probabilities: bool,
    baseline: Baseline | None,
    judged: JudgedOutputs | None,
    observer: Observer | None,
    workers: int,
) -> dict[str, Evaluation]:
    """All models and the exact kernels in one pass over the images."""
    models: dict[str, InferenceSession | Remembered] = {name: one.session for name, one in files.items()}
    if baseline is not None:
        models[FP32] = baseline
    models |= _judged_before(files, batches, judged)
    pairs = [("QOperator", "QDQ")] if {"QOperator", "QDQ"} <= set(files) else []
    return evaluate(
        models,
        batches,
        reference=FP32,
        probabilities=probabilities,
        pairs=pairs,
        witnesses=_exact_sessions(files),
        witness_images=COMPARED_IMAGES,
        in_turn=bool(pairs),
        observer=observer,
        workers=workers,
        description="verifying the files as written",
        sources={name: one.path for name, one in files.items()},
        made_here=tuple(name for name in files if name != FP32),
    )


def _judged_before(
    files: Mapping[str, Written], batches: Batches | Iterable[Batch], judged: JudgedOutputs | None
) -> dict[str, Remembered]:
    """Both formats, of which only one is run where that says what the other one does."""
    if judged is None or judged.loader is not batches or not {"QOperator", "QDQ"} <= set(files):
        return {}
    twins = judged.twins(files["QDQ"].content, files["QDQ"].session, files["QOperator"].session)
    return {} if twins is None else dict(zip(("QDQ", "QOperator"), twins, strict=True))


def _exact_sessions(files: Mapping[str, Written]) -> dict[str, InferenceSession]:
    return {name: one.exact for name, one in files.items() if one.exact is not None}


def _saturating(artefacts: Mapping[Format, Artefact], target: Target) -> list[str]:
    """What accuracy was measured with, where that is not what the deployment computes.

    Targets that have to be exact everywhere fail for it; nothing of others runs here at all.
    """
    if target.exact or not target.on_cpu:
        return []
    found = ((kind, one.portability.equality) for kind, one in artefacts.items())
    return [here_line(kind, equality) for kind, equality in found if not equality.bit_equal]


def _witnessed_together(found: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
    """Both formats with what the witnesses of either saw, for formats whose outputs are the same bit for bit.

    Exact kernels are run for one format on every other batch and for the other format on the rest: where all
    of these agree with the models, exact kernels agree with both models on every batch.
    """
    both = [one.witness or Equality() for one in (found["QOperator"], found["QDQ"])]
    witness = both[0].merge(both[1])
    return {kind: replace(found[kind], witness=witness) for kind in ("QOperator", "QDQ")}


class _First:
    """Passes batches through and keeps the first image, [1, ...] float32, for the stopwatch."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches
        self.image: npt.NDArray[np.float32] = np.empty((0,), np.float32)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self._batches:
            if not self.image.size:
                self.image = images[:1].copy()
            yield images, labels


def _facts(file: Written, evaluation: Evaluation, latency: Latency) -> FileFacts:
    return FileFacts(
        path=file.path,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        counts=evaluation.counts,
        coverage=file.coverage,
        latency=latency,
        declared=file.declared,
    )


def _profiled(facts: FileFacts, image: npt.NDArray[np.float32]) -> FileFacts:
    return replace(facts, profile_ms=profile_ms(facts.path, image))


def _compare(
    name: str,
    facts: FileFacts,
    file: Written,
    found: Mapping[str, Evaluation],
    timing: InterleavedLatency,
) -> Artefact:
    reference, model = found[FP32], found[name]
    return Artefact(
        facts=facts,
        top1=Decline.from_outcomes(PairedOutcomes.from_hits(reference.top1_hits, model.top1_hits)),
        top5=Decline.from_outcomes(PairedOutcomes.from_hits(reference.top5_hits, model.top5_hits)),
        fidelity=model.fidelity or Fidelity.empty(),
        speed_up=timing.speed_ups[name],
        portability=Portability(model.witness or Equality(), file.bound),
    )


def _emulated(target: Target) -> list[str]:
    if target.on_cpu:
        return []
    return [f"speed is that of this CPU, which only emulates {target.name}: measure it on the device"]


def _warnings(facts: Mapping[str, FileFacts], equality: Equality | None, classes: int) -> Iterator[str]:
    counts = facts[FP32].counts
    if counts.top1 < guessing_accuracy(classes, counts.images):
        yield (
            f"fp32 top-1 is {counts.top1:.2%}, hardly better than guessing among {classes} classes: labels "
            "or transforms do not fit the model (a background class needs LabelShift: {label_shift: -1})"
        )
    ties = [f"{name} {fact.counts.top1_ties}" for name, fact in facts.items() if fact.counts.top1_ties]
    if ties:
        yield (
            f"several classes share first place, of {counts.images} images: {', '.join(ties)}; the lowest "
            "class index is taken (quantized logits cause this)"
        )
    if equality is not None and not equality.bit_equal:
        yield (
            f"QOperator and QDQ differ on {equality.images - equality.equal_images} of {equality.images} "
            f"images, by at most {equality.max_abs_difference:.6g}"
        )
