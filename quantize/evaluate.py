"""Many models, one pass over the images.

Each batch is decoded once and run through all models while it is hot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from quantize.errors import InputError
from quantize.metrics import TOP_K, Counts, Equality, Fidelity, Floats, count_ties, label_ranks
from quantize.session import outputs

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]

# Sees every batch: the logits [N, C] of each model by its name, and the labels [N].
Observer = Callable[[Mapping[str, Floats], npt.NDArray[np.int64]], None]


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

    def add(self, logits: Floats, labels: npt.NDArray[np.int64], name: str) -> None:
        ranks = label_ranks(logits, labels, model=name)
        top1, top5 = ranks == 0, ranks < TOP_K
        self.counts = self.counts.merge(Counts.from_hits(top1, top5, ties=count_ties(logits)))
        self.top1_bits.append(np.packbits(top1))
        self.top5_bits.append(np.packbits(top5))
        self.batch_sizes.append(len(labels))

    def hits(self, bits: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.bool_]:
        unpacked = [np.unpackbits(b, count=n) for b, n in zip(bits, self.batch_sizes, strict=True)]
        return np.concatenate(unpacked).astype(np.bool_)


def evaluate(
    sessions: Mapping[str, ort.InferenceSession],
    batches: Iterable[Batch],
    *,
    reference: str | None = None,
    probabilities: bool = False,
    pairs: Sequence[tuple[str, str]] = (),
    witnesses: Mapping[str, ort.InferenceSession] | None = None,
    witness_images: int = 0,
    observer: Observer | None = None,
) -> dict[str, Evaluation]:
    """Run every model on every batch, one model after another.

    Memory does not grow with the number of images beyond two bits an image and model.

    Args:
        sessions: the models by name.
        batches: images [N, ...] float32 and labels [N] integer, in batches of any size.
        reference: the name of the model that the others' fidelity is measured against.
        probabilities: the models end in softmax.
        pairs: names of models whose outputs are compared bit for bit.
        witnesses: name of a model -> another session whose outputs should be the same bit for bit.
        witness_images: on how many images they are run, the first ones.
        observer: is shown every batch once it is counted.

    Returns:
        One evaluation per model, under the same name.

    Raises:
        InputError: no images; images or labels that do not fit the models; unknown names.
        EngineError: a model failed or put out NaN.
    """
    _check_names(sessions, reference, [*pairs, *((name, name) for name in witnesses or {})])
    tallies = {name: _Tally() for name in sessions}
    equalities = {pair: Equality() for pair in pairs}
    witnessed = {name: Equality() for name in witnesses or {}}
    for images, labels in batches:
        logits = {name: outputs(session, images, model=name) for name, session in sessions.items()}
        for name, tally in tallies.items():
            tally.add(logits[name], labels, name)
            if reference is not None and name != reference:
                step = Fidelity.from_logits(
                    logits[reference], logits[name], probabilities=probabilities, model=name
                )
                tally.fidelity = tally.fidelity.merge(step)
        for left, right in pairs:
            step_equality = Equality.from_logits(logits[left], logits[right])
            equalities[left, right] = equalities[left, right].merge(step_equality)
        for name, so_far in witnessed.items():
            count = min(len(images), witness_images - so_far.images)
            if witnesses and count > 0:
                theirs = outputs(witnesses[name], images[:count], model=f"{name} with exact kernels")
                witnessed[name] = so_far.merge(Equality.from_logits(logits[name][:count], theirs))
        if observer is not None:
            observer(logits, labels)
    if any(not tally.batch_sizes for tally in tallies.values()):
        raise InputError("evaluation images: 0 were given; check the image list and the data path")
    found = {name: _finish(name, tally, reference, equalities) for name, tally in tallies.items()}
    return {name: replace(result, witness=witnessed.get(name)) for name, result in found.items()}


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
    sessions: Mapping[str, ort.InferenceSession], reference: str | None, pairs: Sequence[tuple[str, str]]
) -> None:
    asked = {name for pair in pairs for name in pair} | ({reference} if reference is not None else set())
    unknown = sorted(asked - set(sessions))
    if unknown:
        raise InputError(
            f"evaluate: no model named {unknown[0]!r}; given are {', '.join(sessions) or 'none'}"
        )
