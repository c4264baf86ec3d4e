"""Judges drafts by what they do to the scores of selection images, which nothing was learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from quantize.metrics import Fidelity
from quantize.qdq import write_qdq
from quantize.refine.network import Draft, Network
from quantize.session import make_session, outputs

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """How close an integer model is to fp32: mean KL divergence in nats, and the fraction of equal top-1."""

    kl: float
    agreement: float

    def beats(self, other: Score) -> bool:
        """Whether it is closer; an equal one is not."""
        return self.kl < other.kl


class Judge:
    """Runs drafts, as they would be written, on the selection images.

    Args:
        network: the fp32 network.
        images: selection images, one array [1, ...] each.
        threads: images under way at once; the result does not depend on it.
        probabilities: whether the network ends in softmax.
    """

    def __init__(
        self, network: Network, images: Sequence[Floats], *, threads: int, probabilities: bool
    ) -> None:
        self._network, self._images, self._threads = network, images, threads
        self._probabilities = probabilities
        self._reference = scores(network.model, images, threads=threads)

    @property
    def image_count(self) -> int:
        """How many selection images there are."""
        return len(self._images)

    def __call__(self, draft: Draft) -> Score:
        """The score of a draft."""
        network = self._network
        model = write_qdq(network.model, network.inventory, draft.plan(), network.target)
        found = scores(model, self._images, threads=self._threads, config_entries=network.session_entries)
        fidelity = Fidelity.from_logits(
            self._reference, found, probabilities=self._probabilities, model="int8 model"
        )
        return Score(fidelity.kl, fidelity.agreement)


def scores(
    model: onnx.ModelProto,
    images: Sequence[Floats],
    *,
    threads: int,
    config_entries: Mapping[str, str] | None = None,
) -> Floats:
    """What a model makes of each image alone, [images, classes]; the same whatever the number of threads."""
    session = make_session(model, threads=1, config_entries=config_entries)
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="judge") as pool:
        rows = list(pool.map(lambda image: outputs(session, image)[0], images))
    table: Floats = np.stack(rows).astype(np.float32)
    return table
