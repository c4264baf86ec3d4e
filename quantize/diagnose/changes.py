"""Which images changed their mind: those that the int8 model puts into another class than fp32 does."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quantize.metrics import TOP_K, Floats, Labels, log_probabilities
from quantize.portable_math import exp

Kind = Literal["lost", "won", "other"]
KINDS: tuple[Kind, ...] = ("lost", "won", "other")

# Of the images that are shown, so many shares go to each kind: losses are what a reader looks for.
_SHARES: Mapping[Kind, int] = {"lost": 3, "won": 2, "other": 1}


@dataclass(frozen=True)
class Guess:
    """A class and the probability that a model gives it."""

    class_index: int
    probability: float


@dataclass(frozen=True)
class ChangedImage:
    """One image whose best class differs.

    Attributes:
        index: its place among the evaluation images, from 0.
        kind: "lost" if fp32 is right, "won" if int8 is, "other" if neither.
        label: the right class, as the model counts.
        kl_nats: divergence of the int8 model's probabilities from those of fp32.
        fp32, int8: the best five classes of each, best first.
    """

    index: int
    kind: Kind
    label: int
    kl_nats: float
    fp32: tuple[Guess, ...]
    int8: tuple[Guess, ...]


@dataclass(frozen=True)
class Changes:
    """The images that changed their mind.

    Attributes:
        counts: how many there are of each kind.
        shown: some of them, losses first, within each kind the largest divergence first.
    """

    counts: Mapping[Kind, int]
    shown: tuple[ChangedImage, ...]


class ChangeWatcher:
    """Sees the logits of every batch once, and keeps the images that changed most.

    Args:
        reference: name of the fp32 model among those that are evaluated.
        model: name of the int8 model.
        limit: how many images are shown in the end; memory holds at most three times as many.
        probabilities: the models end in softmax.
    """

    def __init__(self, reference: str, model: str, *, limit: int, probabilities: bool) -> None:
        self._reference, self._model = reference, model
        self._limit, self._probabilities = limit, probabilities
        self._seen = 0
        self._counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._kept: dict[Kind, list[tuple[float, int, ChangedImage]]] = {kind: [] for kind in KINDS}

    def __call__(self, logits: Mapping[str, Floats], labels: Labels) -> None:
        """Looks at one batch: logits [N, C] by model, labels [N]."""
        fp32, int8 = logits[self._reference], logits[self._model]
        for row in np.flatnonzero(fp32.argmax(axis=1) != int8.argmax(axis=1)):
            self._add(fp32[row], int8[row], int(labels[row]), self._seen + int(row))
        self._seen += len(labels)

    def _add(self, fp32: Floats, int8: Floats, label: int, index: int) -> None:
        log_p, log_q = (
            log_probabilities(row[None], probabilities=self._probabilities)[0] for row in (fp32, int8)
        )
        kl_nats = float((exp(log_p) * (log_p - log_q)).sum())
        kind: Kind = "lost" if fp32.argmax() == label else "won" if int8.argmax() == label else "other"
        image = ChangedImage(index, kind, label, kl_nats, _best(fp32, log_p), _best(int8, log_q))
        self._counts[kind] += 1
        kept = self._kept[kind]
        heapq.heappush(kept, (kl_nats, -index, image))
        if len(kept) > self._limit:
            heapq.heappop(kept)

    def changes(self) -> Changes:
        """What was found so far."""
        room = _rooms({kind: len(kept) for kind, kept in self._kept.items()}, self._limit)
        shown = [image for kind in KINDS for _, _, image in heapq.nlargest(room[kind], self._kept[kind])]
        return Changes(dict(self._counts), tuple(shown))


def _best(logits: Floats, log_probability: Floats) -> tuple[Guess, ...]:
    """The best classes, equal ones in the order of their index, as everywhere."""
    order = np.argsort(-logits, kind="stable")[:TOP_K]
    shares = exp(log_probability)
    return tuple(Guess(int(k), float(shares[k])) for k in order)


def _rooms(available: Mapping[Kind, int], limit: int) -> dict[Kind, int]:
    """How many images of each kind are shown: by shares, and what one kind does not need goes to the next."""
    room: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    while sum(room.values()) < limit and any(room[kind] < available[kind] for kind in KINDS):
        for kind in KINDS:
            free = limit - sum(room.values())
            room[kind] += min(_SHARES[kind], available[kind] - room[kind], free)
    return room
