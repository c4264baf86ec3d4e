"""Judges drafts by what they do to the scores of selection images, which nothing was learnt from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from quantize.metrics import divergences
from quantize.nonfinite import Naming, explained
from quantize.qdq import write_qdq
from quantize.refine.network import Draft, Network
from quantize.session import make_session, outputs

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """How close an integer model is to fp32.

    Attributes:
        kl: mean KL divergence, in nats.
        agreement: fraction of the images with the same top-1.
        divergences: KL divergence of each image, [images]; empty where nobody compares image by image.
        outputs: what it makes of the images, [images, classes]; empty where a score was read back.
    """

    kl: float
    agreement: float
    divergences: npt.NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), repr=False, compare=False
    )
    outputs: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False, compare=False)

    def beats(self, other: Score) -> bool:
        """Whether it is closer; an equal one is not."""
        return self.kl < other.kl


class Judge:
    """Runs drafts, as they would be written, on the selection images.

    Args:
        network: the fp32 network.
        images: selection images, one array [1, ...] each.
        threads: images under way at once; the result does not depend on it.
        naming: what to call image i.
        reference: what the fp32 network makes of the images, [images, classes]; computed if None.
    """

    def __init__(
        self,
        network: Network,
        images: Sequence[Floats],
        *,
        threads: int,
        naming: Naming | None = None,
        reference: Floats | None = None,
    ) -> None:
        self.network = network
        self._images, self._threads, self._naming = images, threads, naming
        if reference is None:
            reference = scores(network.model, images, threads=threads, naming=naming, ours=False)
        self._reference = reference
        self._known: dict[bytes, Score] = {}

    def of(self, network: Network) -> Judge:
        """A judge of drafts of another network that computes the same."""
        return Judge(
            network, self._images, threads=self._threads, naming=self._naming, reference=self._reference
        )

    @property
    def image_count(self) -> int:
        """How many selection images there are."""
        return len(self._images)

    def __call__(self, draft: Draft) -> Score:
        """The score of a draft; one that writes the same model as an earlier one is not run again."""
        network = self.network
        model = write_qdq(network.model, network.inventory, draft.plan(), network.target)
        key = hashlib.sha256(model.SerializeToString(deterministic=True)).digest()
        if key not in self._known:
            self._known[key] = self.score(model)
        return self._known[key]

    def score(self, model: onnx.ModelProto) -> Score:
        """The score of a model that was made of the network, whatever is rounded in it."""
        found = scores(
            model,
            self._images,
            threads=self._threads,
            config_entries=self.network.session_entries,
            naming=self._naming,
        )
        return self._score_of(found)

    def divided(self, score: Score, divisor: float) -> Score:
        """The score of a draft whose outputs are those of one judged here, divided by a number.

        Nothing is run: the outputs are the same but for the last bit of a float32.
        """
        return self._score_of(score.outputs / np.float32(divisor))

    def _score_of(self, found: Floats) -> Score:
        by_image = divergences(
            self._reference, found, probabilities=self.network.probabilities, model="int8 model"
        )
        same = float((self._reference.argmax(axis=1) == found.argmax(axis=1)).mean())
        return Score(float(by_image.mean()), same, by_image, found)


def scores(
    model: onnx.ModelProto,
    images: Sequence[Floats],
    *,
    threads: int,
    config_entries: Mapping[str, str] | None = None,
    naming: Naming | None = None,
    ours: bool = True,
) -> Floats:
    """What a model makes of each image alone, [images, classes]; the same whatever the number of threads.

    Args:
        model: the model.
        images: one array each.
        threads: images under way at once.
        config_entries: of the session.
        naming: what to call image i.
        ours: whether the model was made here.

    Raises:
        InputError: the model is not ours and puts out NaN; the message names operator and image.
        EngineError: the same for one of ours, or the runtime failed.
    """
    session = make_session(model, threads=1, config_entries=config_entries)
    naming = _numbers if naming is None else naming
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="judge") as pool:
        rows = list(pool.map(lambda image: outputs(session, image)[0], images))
    table: Floats = np.stack(rows).astype(np.float32)
    for number, row in enumerate(table):
        if not np.all(row < np.inf):
            kind = "int8 model" if ours else "fp32 model"
            raise explained(model, images[number], model=kind, image_name=naming(number), ours=ours)
    return table


def _numbers(number: int) -> str:
    return f"image number {number}"
