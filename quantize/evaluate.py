"""Many models, one pass over the images.

Each batch is made once and run through all models while it is hot. Several batches are under way at once, one
per worker, from the image files to the counts: with single-threaded sessions that is as fast as one session
whose threads spin while they wait, 10 to 25 % faster than one whose threads sleep (MobileNetV2, two cores),
and no output depends on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from quantize.batches import Batch, Batches, Item, Labels, Remembered, items_of
from quantize.errors import InputError
from quantize.metrics import TOP_K, Counts, Equality, Fidelity, Floats, count_ties, label_ranks
from quantize.parallel import in_order
from quantize.session import outputs


@dataclass(frozen=True)
class Outcome:
    """Which images of a batch a model is right on, [N] bool each."""

    top1: npt.NDArray[np.bool_]
    top5: npt.NDArray[np.bool_]


# Is shown what every model put out for a batch, and its labels, in order.
Observer = Callable[[Mapping[str, Floats], Labels], None]

# Told of every batch, in order; True ends the pass, which then covers the images up to here.
Watch = Callable[[Mapping[str, Outcome]], bool]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model did on the images, in their order.

    `counts.top1_correct == top1_hits.sum()`, and the same for top-5; both arrays are [N] bool.
    """

    counts: Counts
    fidelity: Fidelity | None
    """Against the reference; None for the reference itself, or where there is none."""
    top1_hits: npt.NDArray[np.bool_]
    top5_hits: npt.NDArray[np.bool_]
    equality: Mapping[str, Equality] = field(default_factory=dict)
    """Bit for bit against other models, by their name, for the pairs that were asked for."""
    witness: Equality | None = None
    """Bit for bit against its witness on the first images; None where it has none."""


@dataclass(frozen=True, eq=False)
class _Step:
    """What one batch adds; the outputs themselves are kept for an observer only."""

    images: int
    outcomes: Mapping[str, Outcome]
    counts: Mapping[str, Counts]
    fidelity: Mapping[str, Fidelity]
    equality: Mapping[tuple[str, str], Equality]
    witness: Mapping[str, Equality]
    shown: tuple[Mapping[str, Floats], Labels] | None
    """What an observer is shown; None without one."""


@dataclass
class _Tally:
    """Running totals of one model; the only thing kept per image is one bit for each metric."""

    counts: Counts = field(default_factory=Counts.empty)
    fidelity: Fidelity = field(default_factory=Fidelity.empty)
    top1_bits: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    top5_bits: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)

    def add(self, name: str, step: _Step) -> None:
        outcome = step.outcomes[name]
        self.counts = self.counts.merge(step.counts[name])
        self.fidelity = self.fidelity.merge(step.fidelity.get(name, Fidelity.empty()))
        self.top1_bits.append(np.packbits(outcome.top1))
        self.top5_bits.append(np.packbits(outcome.top5))
        self.batch_sizes.append(step.images)

    def hits(self, bits: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
        unpacked = [np.unpackbits(b, count=n) for b, n in zip(bits, self.batch_sizes, strict=True)]
        return np.concatenate(unpacked).astype(np.bool_)


def evaluate(
    models: Mapping[str, ort.InferenceSession | Remembered],
    batches: Batches | Iterable[Batch],
    *,
    reference: str | None = None,
    probabilities: bool = False,
    pairs: Sequence[tuple[str, str]] = (),
    witnesses: Mapping[str, ort.InferenceSession] | None = None,
    witness_images: int = 0,
    in_turn: bool = False,
    observer: Observer | None = None,
    workers: int = 1,
    watch: Watch | None = None,
    description: str | None = None,
) -> dict[str, Evaluation]:
    """Run every model on every batch, one model after another.

    Memory does not grow with the number of images beyond two bits an image and model.

    Args:
        models: by name; sessions had better be single-threaded where there are several workers.
        batches: images [N, ...] float32 and labels [N] integer, in batches of any size.
        reference: the name of the model that the others' fidelity is measured against.
        probabilities: the models end in softmax.
        pairs: names of models whose outputs are compared bit for bit.
        witnesses: name of a model -> another session whose outputs should be the same bit for bit.
        witness_images: on how many images they are run, the first ones.
        in_turn: every batch has one witness only, each model's in turn. Enough where the models are compared
            with each other bit for bit (`pairs`): what is proven of one on a batch is proven of the other.
        observer: is shown every batch once it is counted.
        workers: batches under way at once.
        watch: may end the pass early.
        description: what the progress display calls it, where the batches have one.

    Returns:
        One evaluation per model, under the same name.

    Raises:
        InputError: no images; images or labels that do not fit the models; unknown names.
        EngineError: a model failed or put out NaN.
    """
    _check_names(models, reference, [*pairs, *((name, name) for name in witnesses or {})])
    tallies = {name: _Tally() for name in models}
    equalities = {pair: Equality() for pair in pairs}
    witnessed = {name: Equality() for name in witnesses or {}}
    wanted = _Wanted(
        models,
        reference,
        probabilities,
        pairs,
        witnesses or {},
        witness_images,
        in_turn,
        observer is not None,
    )

    def judge(item: Item) -> _Step:
        return _judged(wanted, item)

    steps = in_order(judge, items_of(batches), workers=workers)
    shown = batches.shown(steps, _images_of, description) if isinstance(batches, Batches) else steps
    try:
        for step in shown:
            for name, tally in tallies.items():
                tally.add(name, step)
            for pair, equality in step.equality.items():
                equalities[pair] = equalities[pair].merge(equality)
            for name, equality in step.witness.items():
                witnessed[name] = witnessed[name].merge(equality)
            if observer is not None and step.shown is not None:
                observer(*step.shown)
            if watch is not None and watch(step.outcomes):
                break
    finally:
        # By name, so that workers and progress display end now.
        shown.close()
        steps.close()
    if any(not tally.batch_sizes for tally in tallies.values()):
        raise InputError("evaluation images: 0 were given; check the image list and the data path")
    results = {name: _finish(name, tally, reference, equalities) for name, tally in tallies.items()}
    return {name: replace(result, witness=witnessed.get(name)) for name, result in results.items()}


@dataclass(frozen=True)
class _Wanted:
    """What is done with every batch; the arguments of `evaluate`."""

    models: Mapping[str, ort.InferenceSession | Remembered]
    reference: str | None
    probabilities: bool
    pairs: Sequence[tuple[str, str]]
    witnesses: Mapping[str, ort.InferenceSession]
    witness_images: int
    in_turn: bool
    observed: bool


def _images_of(step: _Step) -> int:
    return step.images


def _judged(wanted: _Wanted, item: Item) -> _Step:
    """Runs one batch through all models and compares what they say."""
    logits = {
        name: outputs(model, item.images(), model=name)
        if isinstance(model, ort.InferenceSession)
        else model.logits(item.number, item.images)
        for name, model in wanted.models.items()
    }
    reference, labels = wanted.reference, item.labels()
    outcomes, counts = {}, {}
    for name, values in logits.items():
        ranks = label_ranks(values, labels, model=name)
        outcomes[name] = Outcome(ranks == 0, ranks < TOP_K)
        counts[name] = Counts.from_hits(outcomes[name].top1, outcomes[name].top5, ties=count_ties(values))
    fidelity = {
        name: Fidelity.from_logits(logits[reference], values, probabilities=wanted.probabilities, model=name)
        for name, values in logits.items()
        if reference is not None and name != reference
    }
    return _Step(
        images=len(labels),
        outcomes=outcomes,
        counts=counts,
        fidelity=fidelity,
        equality={
            (left, right): Equality.from_logits(logits[left], logits[right]) for left, right in wanted.pairs
        },
        witness=_witnessed(wanted, item, logits),
        shown=(logits, labels) if wanted.observed else None,
    )


def _witnessed(wanted: _Wanted, item: Item, logits: Mapping[str, Floats]) -> dict[str, Equality]:
    """The models' outputs compared with those of their witnesses, on the images that are among the first."""
    count = wanted.witness_images - item.first
    if count <= 0:
        return {}
    names = list(wanted.witnesses)
    if wanted.in_turn:
        names = names[item.number % len(names) :][:1] if names else []
    return {
        name: Equality.from_logits(
            logits[name][:count],
            outputs(session, item.images()[:count], model=f"{name} with exact kernels"),
        )
        for name, session in ((name, wanted.witnesses[name]) for name in names)
    }


def _finish(
    name: str, tally: _Tally, reference: str | None, equalities: Mapping[tuple[str, str], Equality]
) -> Evaluation:
    against = {
        left if right == name else right: found
        for (left, right), found in equalities.items()
        if name in (left, right)
    }
    return Evaluation(
        counts=tally.counts,
        fidelity=None if reference in (None, name) else tally.fidelity,
        top1_hits=tally.hits(tally.top1_bits),
        top5_hits=tally.hits(tally.top5_bits),
        equality=against,
    )


def _check_names(
    models: Mapping[str, object], reference: str | None, pairs: Sequence[tuple[str, str]]
) -> None:
    asked = {name for pair in pairs for name in pair} | ({reference} if reference is not None else set())
    unknown = sorted(asked - set(models))
    if unknown:
        raise InputError(f"evaluate: no model named {unknown[0]!r}; given are {', '.join(models) or 'none'}")
