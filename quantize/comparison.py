"""One batch through all models: what each of them says, and how that compares with what the others say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from quantize.batches import Item, Labels, Remembered
from quantize.errors import PipelineError
from quantize.metrics import (
    TOP_K,
    Counts,
    Equality,
    Fidelity,
    Floats,
    NonFiniteError,
    count_ties,
    label_ranks,
)
from quantize.nonfinite import Naming, Source, explained_scores, naming_of
from quantize.session import outputs


@dataclass(frozen=True)
class Outcome:
    """Which images of a batch a model is right on, [N] bool each."""

    top1: npt.NDArray[np.bool_]
    top5: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Compared:
    """What one batch adds, by the name of the model; the outputs themselves are kept for an observer only."""

    images: int
    outcomes: Mapping[str, Outcome]
    counts: Mapping[str, Counts]
    fidelity: Mapping[str, Fidelity]
    equality: Mapping[tuple[str, str], Equality]
    witness: Mapping[str, Equality]
    shown: tuple[Mapping[str, Floats], Labels] | None
    """What an observer is shown; None without one."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which models are run on a batch, and what is compared with what.

    Attributes:
        models: by name.
        reference: the name of the model that the others' fidelity is measured against.
        probabilities: the models end in softmax.
        pairs: names of models whose outputs are compared bit for bit.
        witnesses: name of a model -> another session whose outputs should be the same bit for bit.
        witness_images: on how many images they are run, the first ones.
        in_turn: every batch has one witness only, each model's in turn.
        observed: whether the outputs themselves are wanted.
        sources: the graphs or files of the models, so that NaN can be traced to the operator that makes it.
        made_here: names of models that are none of the user's.
        batches: what the batches come from, which may know the files of the images.
    """

    models: Mapping[str, ort.InferenceSession | Remembered]
    reference: str | None
    probabilities: bool
    pairs: Sequence[tuple[str, str]]
    witnesses: Mapping[str, ort.InferenceSession]
    witness_images: int
    in_turn: bool
    observed: bool
    sources: Mapping[str, Source]
    made_here: Collection[str]
    batches: object

    def naming(self, item: Item) -> Naming:
        """What to call the images of a batch."""
        return naming_of(self.batches, item.first)


def compare(comparison: Comparison, item: Item) -> Compared:
    """Runs one batch through all models and compares what they say.

    Raises:
        InputError: images or labels that do not fit the models; NaN from a model that was given.
        EngineError: a model failed, or one that was made here or has no source put out NaN.
    """
    logits = {
        name: outputs(model, item.images(), model=name)
        if isinstance(model, ort.InferenceSession)
        else model.logits(item.number, item.images)
        for name, model in comparison.models.items()
    }
    reference, labels = comparison.reference, item.labels()
    outcomes, counts = {}, {}
    for name, values in logits.items():
        try:
            ranks = label_ranks(values, labels, model=name)
        except NonFiniteError as error:
            raise _traced(comparison, item, error) from error
        outcomes[name] = Outcome(ranks == 0, ranks < TOP_K)
        counts[name] = Counts.from_hits(outcomes[name].top1, outcomes[name].top5, ties=count_ties(values))
    fidelity = {
        name: Fidelity.from_logits(
            logits[reference], values, probabilities=comparison.probabilities, model=name
        )
        for name, values in logits.items()
        if reference is not None and name != reference
    }
    return Compared(
        images=len(labels),
        outcomes=outcomes,
        counts=counts,
        fidelity=fidelity,
        equality={
            (left, right): Equality.from_logits(logits[left], logits[right])
            for left, right in comparison.pairs
        },
        witness=_witnessed(comparison, item, logits),
        shown=(logits, labels) if comparison.observed else None,
    )


def _traced(comparison: Comparison, item: Item, error: NonFiniteError) -> PipelineError:
    """The error with the operator and the image, where the model's graph is known."""
    source = comparison.sources.get(error.model)
    if source is None:
        return error
    ours = error.model in comparison.made_here
    return explained_scores(
        error, source, item.images(), comparison.naming(item), model=error.model, ours=ours
    )


def _witnessed(comparison: Comparison, item: Item, logits: Mapping[str, Floats]) -> dict[str, Equality]:
    """The models' outputs compared with those of their witnesses, on the images that are among the first."""
    count = comparison.witness_images - item.first
    if count <= 0:
        return {}
    names = list(comparison.witnesses)
    if comparison.in_turn:
        names = names[item.number % len(names) :][:1] if names else []
    return {
        name: Equality.from_logits(
            logits[name][:count],
            outputs(session, item.images()[:count], model=f"{name} with exact kernels"),
        )
        for name, session in ((name, comparison.witnesses[name]) for name in names)
    }
