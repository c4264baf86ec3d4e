"""What the fp32 model says about the evaluation images: computed once, and remembered beside their pixels.

Every trial is compared with it, and so is the verification; a second run with the same model, images and
transforms need not compute it again. It is kept by batch, under everything that it depends on: the model's
bytes, the images and transforms (`DataLoader.batch_key`), the runtime's version and the processor, whose
kernels may round differently.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort

from calibration.dataloader import DataLoader
from quantize.batches import Images
from quantize.evaluate import Evaluation, evaluate
from quantize.files import sha256_of_file
from quantize.loading import external_files
from quantize.metrics import Floats
from quantize.processor import cpu
from quantize.session import make_session, outputs

KIND = "logits"
_NAME = "fp32"


class Baseline:
    """The fp32 model on the evaluation images; usable as a `Remembered` model.

    Args:
        model_path: the file.
        loader: the evaluation images; its store, if it has one, is where the outputs are kept.
        workers: batches under way at once.
    """

    def __init__(self, model_path: Path, loader: DataLoader, *, workers: int) -> None:
        self.model_path, self.loader = model_path, loader
        self._workers = workers
        self._lock = threading.Lock()
        self._session: ort.InferenceSession | None = None

    @cached_property
    def evaluation(self) -> Evaluation:
        """Its accuracy, image by image; raises as `evaluate`."""
        found = evaluate(
            {_NAME: self},
            self.loader,
            workers=self._workers,
            description="fp32 baseline",
            sources={_NAME: self.model_path},
        )
        with self._lock:
            self._session = None  # with what it has taken for activations; it is made again if needed
        return found[_NAME]

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        """Outputs on one batch of the loader, [N, classes], remembered or computed; raises as `outputs`."""
        store = self.loader.store
        if store is None:
            return self._computed(images())
        image_key = self.loader.batch_key(batch)
        key = hashlib.sha256(f"{self._context}{image_key}".encode()).hexdigest()
        known = store.get(KIND, key)
        if known is not None:
            return known
        computed = self._computed(images())
        if self.loader.batch_key(batch) == image_key:  # no image changed in between
            store.put(KIND, key, computed)
        return computed

    def _computed(self, images: Images) -> Floats:
        return outputs(self._made_session(), images, model=_NAME)

    def _made_session(self) -> ort.InferenceSession:
        """A single-threaded session of the file, made when first needed."""
        with self._lock:
            if self._session is None:
                self._session = make_session(self.model_path, threads=1)
            return self._session

    @cached_property
    def _context(self) -> str:
        files = [self.model_path, *external_files(self.model_path)]
        facts = [[sha256_of_file(path) for path in files], ort.__version__, np.__version__, cpu()]
        return json.dumps(facts)
