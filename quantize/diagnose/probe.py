"""How far a model is from fp32 on a fixed handful of calibration images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx

from calibration.dataloader import DataLoader
from quantize.metrics import Counts, Fidelity, Floats, NonFiniteError, check_finite
from quantize.nonfinite import explained_scores, naming_of
from quantize.parallel import in_order
from quantize.session import make_session, outputs

# Images of one call; small calls side by side are faster, and take less memory, than one large one.
_PIECE = 4


@dataclass(frozen=True)
class Outcome:
    """What a model does on the images of a probe."""

    fidelity: Fidelity
    """Against fp32."""
    counts: Counts


class Probe:
    """Runs models on the first calibration images, and compares them with the fp32 model.

    Calibration images, because accuracy is judged on the evaluation images, which must not choose twice. They
    are read, and fp32 is run, when first needed; then they stay in memory, `count · 0.6 MB` for ImageNet.

    Args:
        fp32: what is compared with.
        loader: calibration images; the first `count` of them are used.
        count: how many; all of them where there are fewer.
        threads: pieces of the images under way at once; every session has one thread.
        probabilities: the models end in softmax.
        config_entries: settings of the sessions, so that they compute what the deployment's kernels do.
    """

    def __init__(
        self,
        fp32: onnx.ModelProto,
        loader: DataLoader,
        count: int,
        *,
        threads: int,
        probabilities: bool,
        config_entries: Mapping[str, str] | None = None,
    ) -> None:
        self._fp32, self._loader = fp32, loader
        self._threads, self._probabilities = threads, probabilities
        self._config_entries = dict(config_entries or {})
        self.image_count = min(count, len(loader.images))

    def fidelity(self, model: onnx.ModelProto) -> Fidelity:
        """Agreement with and divergence from fp32; raises as `quantize.session.outputs`."""
        return self._fidelity(model, self._run(model))

    def outcome(self, model: onnx.ModelProto) -> Outcome:
        """The same, and how often the model is right; raises as `quantize.session.outputs`."""
        logits = self._run(model)
        return Outcome(self._fidelity(model, logits), Counts.from_logits(logits, self._batch[1]))

    def fp32_counts(self) -> Counts:
        """How often fp32 is right."""
        return Counts.from_logits(self._reference, self._batch[1])

    def _fidelity(self, model: onnx.ModelProto, logits: Floats) -> Fidelity:
        self._check(self._fp32, self._reference, "fp32 model")
        self._check(model, logits, "int8 model")
        return Fidelity.from_logits(self._reference, logits, probabilities=self._probabilities)

    def _check(self, model: onnx.ModelProto, logits: Floats, name: str) -> None:
        """Refuses NaN and infinity by the operator that makes it."""
        try:
            check_finite(logits, name)
        except NonFiniteError as error:
            naming, ours = naming_of(self._loader), model is not self._fp32
            raise explained_scores(error, model, self._batch[0], naming, model=name, ours=ours) from error

    def _run(self, model: onnx.ModelProto) -> Floats:
        session = make_session(model, threads=1, config_entries=self._config_entries)
        images = self._batch[0]
        pieces = (images[start : start + _PIECE] for start in range(0, len(images), _PIECE))
        made = in_order(lambda piece: outputs(session, piece), pieces, workers=self._threads)
        return np.concatenate(list(made))

    @cached_property
    def _batch(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        ((images, labels),) = self._loader.subset(range(self.image_count), batch_size=self.image_count)
        return images, labels

    @cached_property
    def _reference(self) -> Floats:
        return self._run(self._fp32)
