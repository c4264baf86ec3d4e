"""What the last judged model put out for the evaluation images, until the file that it became is verified.

A file of the accepted model holds the very graph that was judged. Run in a session of the same kind on the
same images, it would compute the same numbers a second time, which was a third of the verification of a small
network. They are taken over where the file as it was read back holds that graph byte for byte, the images are
still the same, and a batch that is run again comes out the same to the bit; anything else is run.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

import numpy as np
import onnx
from onnxruntime import InferenceSession

from calibration.dataloader import DataLoader
from quantize.batches import Images, Remembered
from quantize.metrics import Floats
from quantize.model import serialize
from quantize.session import outputs

# 16,000 images of 1,000 classes. Beyond it a model is run again, so that memory does not grow with images.
LIMIT_BYTES = 64 << 20


def content_key(model: onnx.ModelProto) -> str:
    """What tells a model from others, whatever its metadata says: 64 hexadecimal digits."""
    return hashlib.sha256(serialize(model, {})).hexdigest()


class JudgedOutputs:
    """Outputs of one model, the last that was recorded, by batch.

    Args:
        loader: the evaluation images.
        limit_bytes: of the outputs; a model that has more is forgotten.

    Attributes:
        loader: as given.
    """

    def __init__(self, loader: DataLoader, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.loader, self._limit_bytes = loader, limit_bytes
        self._lock = threading.Lock()
        self._content, self._known, self._bytes = "", dict[int, tuple[str, Floats]](), 0

    def recording(self, model: onnx.ModelProto, session: InferenceSession) -> Remembered:
        """Runs the model, and remembers what it puts out in place of what was known of others.

        Args:
            model: that the session runs.
            session: of one thread.
        """
        self._content, self._known, self._bytes = content_key(model), {}, 0
        return _Recording(self, session)

    def of(self, content: str, session: InferenceSession) -> Remembered | InferenceSession:
        """What is known of a model, else the session itself.

        Args:
            content: `content_key` of the model that was read back.
            session: runs that model, with one thread.

        Raises:
            EngineError: the session failed.
        """
        if content != self._content or not self._known:
            return session
        known = _Known(self, session)
        batch = min(self._known)
        again = outputs(session, self.loader.load(batch)[0], model="model read back")
        return known if np.array_equal(again, self._known[batch][1]) else session

    def known(self, batch: int) -> Floats | None:
        """Outputs on a batch whose images are still those that were seen, [N, classes]."""
        found = self._known.get(batch)
        return found[1] if found is not None and found[0] == self.loader.batch_key(batch) else None

    def keep(self, batch: int, key: str, found: Floats) -> None:
        """Remembers outputs as long as all of them fit.

        Args:
            batch: its number.
            key: of its images, as the loader tells them from others.
            found: [N, classes].
        """
        with self._lock:
            self._bytes += found.nbytes
            if self._bytes > self._limit_bytes:
                self._known = {}
            else:
                self._known[batch] = key, found


class _Recording:
    """A session whose outputs are kept."""

    def __init__(self, judged: JudgedOutputs, session: InferenceSession) -> None:
        self._judged, self._session = judged, session

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        key = self._judged.loader.batch_key(batch)
        found = outputs(self._session, images())
        if self._judged.loader.batch_key(batch) == key:  # no image changed in between
            self._judged.keep(batch, key, found)
        return found


class _Known:
    """A session that is run where its outputs are not known."""

    def __init__(self, judged: JudgedOutputs, session: InferenceSession) -> None:
        self._judged, self._session = judged, session

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        found = self._judged.known(batch)
        return outputs(self._session, images()) if found is None else found
