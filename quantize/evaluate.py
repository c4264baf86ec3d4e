"""Many models, one pass over the images.

Each batch is made once and run through all models while it is hot. Several batches are under way at once, one
per worker, from the image files to the counts: with single-threaded sessions that is as fast as one session
whose threads spin while they wait, 10 to 25 % faster than one whose threads sleep (MobileNetV2, two cores),
and no output depends on the number of workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from quantize.batches import Batch, Batches, Item, Labels, Remembered, items_of
from quantize.comparison import Compared, Comparison, Outcome, compare
from quantize.errors import InputError
from quantize.metrics import Counts, Equality, Fidelity, Floats
from quantize.nonfinite import Source
from quantize.parallel import in_order

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


@dataclass
class _Tally:
    """Running totals of one model; the only thing kept per image is one bit for each metric."""

    counts: Counts = field(default_factory=Counts.empty)
    fidelity: Fidelity = field(default_factory=Fidelity.empty)
    top1_bits: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    top5_bits: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)

    def add(self, name: str, step: Compared) -> None:
        outcome = step.outcomes[name]
        self.counts = self.counts.merge(step.counts[name])
        self.fidelity = self.fidelity.merge(step.fidelity.get(name, Fidelity.empty()))
        self.top1_bits.append(np.packbits(outcome.top1))
        self.top5_bits.append(np.packbits(outcome.top5))
        self.batch_sizes.append(step.images)

    def hits(self, bits: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
        unpacked = [np.unpackbits(b, count=n) for b, n in zip(bits, self.batch_sizes, strict=True)]
        return np.concatenate(unpacked).astype(np.bool_)


@dataclass
class _Totals:
    """Running totals of a pass: of each model, of each pair, and of each model with its witness."""

    tallies: Mapping[str, _Tally]
    equalities: dict[tuple[str, str], Equality]
    witnessed: dict[str, Equality]

    @classmethod
    def of(cls, comparison: Comparison) -> _Totals:
        return cls(
            {name: _Tally() for name in comparison.models},
            {pair: Equality() for pair in comparison.pairs},
            {name: Equality() for name in comparison.witnesses},
        )

    def add(self, step: Compared) -> None:
        for name, tally in self.tallies.items():
            tally.add(name, step)
        for pair, equality in step.equality.items():
            self.equalities[pair] = self.equalities[pair].merge(equality)
        for name, equality in step.witness.items():
            self.witnessed[name] = self.witnessed[name].merge(equality)

    def evaluations(self, reference: str | None) -> dict[str, Evaluation]:
        if any(not tally.batch_sizes for tally in self.tallies.values()):
            raise InputError("evaluation images: 0 were given; check the image list and the data path")
        return {
            name: Evaluation(
                counts=tally.counts,
                fidelity=None if reference in (None, name) else tally.fidelity,
                top1_hits=tally.hits(tally.top1_bits),
                top5_hits=tally.hits(tally.top5_bits),
                equality=self._against(name),
                witness=self.witnessed.get(name),
            )
            for name, tally in self.tallies.items()
        }

    def _against(self, name: str) -> dict[str, Equality]:
        """The model's equality with others, by their names."""
        return {
            left if right == name else right: found
            for (left, right), found in self.equalities.items()
            if name in (left, right)
        }


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
    sources: Mapping[str, Source] | None = None,
    made_here: Collection[str] = (),
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
        sources: the graphs or files of the models, so that NaN can be traced to the operator that makes it.
        made_here: names of models that are none of the user's.

    Returns:
        One evaluation per model, under the same name.

    Raises:
        InputError: no images; images or labels that do not fit the models; unknown names; NaN from a model
            that was given, with the operator that makes it and the image.
        EngineError: a model failed, or one that was made here or has no source put out NaN.
    """
    comparison = Comparison(
        models=models,
        reference=reference,
        probabilities=probabilities,
        pairs=pairs,
        witnesses=witnesses or {},
        witness_images=witness_images,
        in_turn=in_turn,
        observed=observer is not None,
        sources=sources or {},
        made_here=made_here,
        batches=batches,
    )
    _check_names(comparison)
    totals = _Totals.of(comparison)
    with _compared(comparison, batches, workers, description) as steps:
        for step in steps:
            totals.add(step)
            if observer is not None and step.shown is not None:
                observer(*step.shown)
            if watch is not None and watch(step.outcomes):
                break
    return totals.evaluations(reference)


@contextlib.contextmanager
def _compared(
    comparison: Comparison, batches: Batches | Iterable[Batch], workers: int, description: str | None
) -> Iterator[Iterator[Compared]]:
    """What every batch adds, in order, with progress; leaving the block ends the workers."""

    def step(item: Item) -> Compared:
        return compare(comparison, item)

    steps = in_order(step, items_of(batches), workers=workers)
    shown: Generator[Compared, None, None] = steps
    if isinstance(batches, Batches):
        shown = batches.shown(steps, lambda one: one.images, description)
    try:
        yield shown
    finally:
        # By name, so that workers and progress display end now.
        shown.close()
        steps.close()


def _check_names(comparison: Comparison) -> None:
    named = {name for pair in comparison.pairs for name in pair} | set(comparison.witnesses)
    asked = named | ({comparison.reference} if comparison.reference is not None else set())
    unknown = sorted(asked - set(comparison.models))
    if unknown:
        given = ", ".join(comparison.models) or "none"
        raise InputError(f"evaluate: no model named {unknown[0]!r}; given are {given}")
