"""Which images changed their mind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantize.diagnose.changes import Changes, ChangeWatcher
from quantize.metrics import Fidelity

CLASSES = 7


def logits_of(best: list[int], second: int = 0, margin: float = 1.0) -> np.ndarray[Any, Any]:
    made = np.zeros((len(best), CLASSES), np.float32)
    made[:, second] = 2.0
    made[np.arange(len(best)), best] = 2.0 + margin
    return made


def watched(
    fp32: list[int], int8: list[int], labels: list[int], *, limit: int = 24, batch: int = 3
) -> Changes:
    watcher = ChangeWatcher("fp32", "QDQ", limit=limit, probabilities=False)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        logits = {"fp32": logits_of(fp32[part]), "QDQ": logits_of(int8[part], second=6)}
        watcher(logits, np.asarray(labels[part], np.int64))
    return watcher.changes()


def test_kinds_and_places() -> None:
    found = watched([1, 2, 3, 4, 5], [1, 3, 3, 5, 4], [1, 2, 0, 5, 1])
    assert found.counts == {"lost": 1, "won": 1, "other": 1}
    assert [(image.index, image.kind, image.label) for image in found.shown] == [
        (1, "lost", 2),
        (3, "won", 5),
        (4, "other", 1),
    ]
    assert [image.fp32[0].class_index for image in found.shown] == [2, 4, 5]
    assert [image.int8[0].class_index for image in found.shown] == [3, 5, 4]


def test_probabilities_and_divergence_are_those_of_softmax() -> None:
    (image,) = watched([1], [2], [1]).shown
    fp32, int8 = logits_of([1]).astype(np.float64), logits_of([2], second=6).astype(np.float64)
    expected = np.exp(fp32[0]) / np.exp(fp32[0]).sum()
    assert [guess.probability for guess in image.fp32] == pytest.approx(sorted(expected)[::-1][:5])
    # Classes of equal score come in the order of their index.
    assert [guess.class_index for guess in image.fp32] == [1, 0, 2, 3, 4]
    assert image.kl_nats == pytest.approx(Fidelity.from_logits(fp32, int8).kl)


def test_outputs_of_a_softmax_are_taken_as_they_are() -> None:
    watcher = ChangeWatcher("fp32", "QDQ", limit=4, probabilities=True)
    probabilities = np.asarray([[0.7, 0.2, 0.1]], np.float32)
    watcher({"fp32": probabilities, "QDQ": probabilities[:, ::-1]}, np.asarray([0]))
    (image,) = watcher.changes().shown
    assert [guess.probability for guess in image.fp32] == pytest.approx([0.7, 0.2, 0.1])


def test_the_limit_keeps_the_largest_changes_of_each_kind() -> None:
    watcher = ChangeWatcher("fp32", "QDQ", limit=6, probabilities=False)
    margins = np.random.default_rng(2).permutation(30) / 10 + 0.1
    for margin in margins:  # all lost, one an image
        watcher(
            {"fp32": logits_of([1], margin=margin), "QDQ": logits_of([2], margin=margin)}, np.asarray([1])
        )
    found = watcher.changes()
    assert found.counts == {"lost": 30, "won": 0, "other": 0}
    assert [image.index for image in found.shown] == list(np.argsort(-margins)[:6])


def test_places_are_shared_out_and_none_is_wasted() -> None:
    def kinds(lost: int, won: int, other: int) -> dict[str, int]:
        fp32 = [1] * lost + [2] * won + [1] * other
        int8 = [2] * lost + [1] * won + [2] * other
        labels = [1] * lost + [1] * won + [0] * other
        shown = [image.kind for image in watched(fp32, int8, labels, limit=12).shown]
        return {kind: shown.count(kind) for kind in ("lost", "won", "other")}

    assert kinds(50, 50, 50) == {"lost": 6, "won": 4, "other": 2}
    assert kinds(1, 50, 1) == {"lost": 1, "won": 10, "other": 1}
    assert kinds(0, 0, 50) == {"lost": 0, "won": 0, "other": 12}
    assert kinds(2, 1, 0) == {"lost": 2, "won": 1, "other": 0}


def test_nothing_changed() -> None:
    assert watched([1, 2], [1, 2], [0, 0]) == Changes({"lost": 0, "won": 0, "other": 0}, ())
