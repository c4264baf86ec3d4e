"""Whether a file puts out what the trial did that it came from, without running both on every image.

The QDQ file of an accepted model holds the very graph that was judged. Run in a session of the same kind on
the same images, it would compute the same numbers a second time. Digests of what the trial put out are kept
instead, 16 bytes an image: where the outputs of the QOperator file have the same digests, they are the QDQ
file's as well. That is relied on where the file as it was read back holds the judged graph byte for byte, and
a batch that is run again comes out the same. What differs is run, as are images that changed meanwhile.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import InferenceSession

from calibration.dataloader import DataLoader
from quantize.batches import Images, Remembered
from quantize.metrics import Floats
from quantize.model import serialize
from quantize.session import outputs

Digests = npt.NDArray[np.uint8]

_DIGEST_BYTES = 16
_NAME = "int8 model read back"


def content_key(model: onnx.ModelProto) -> str:
    """What tells a model from others, whatever its metadata says: 64 hexadecimal digits."""
    return hashlib.sha256(serialize(model, {})).hexdigest()


class JudgedOutputs:
    """Digests of what the model that was recorded last put out, image by image.

    Args:
        loader: the evaluation images.

    Attributes:
        loader: as given.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self._content = ""
        self._digests: Digests = np.zeros((len(loader.images), _DIGEST_BYTES), np.uint8)  # zero is unknown

    def recording(
        self, model: onnx.ModelProto, session: InferenceSession, *, order: Sequence[int] | None = None
    ) -> Remembered:
        """Runs a model, and keeps digests of what it puts out in place of those of others.

        Args:
            model: that the session runs.
            session: of one thread.
            order: of the images in the batches that it will be run on; None is their own.
        """
        self._content = content_key(model)
        self._digests[:] = 0
        loader = self.loader if order is None else self.loader.subset(order)
        positions = np.arange(len(self.loader.images)) if order is None else np.asarray(order)
        return _Recording(session, loader, positions, self._digests)

    def twins(
        self, content: str, session: InferenceSession, twin: InferenceSession
    ) -> tuple[Remembered, Remembered] | None:
        """The recorded model and a twin of it, of which only the twin is run where both put out the same.

        Args:
            content: `content_key` of the model that was read back.
            session: runs that model, with one thread.
            twin: another session, also of one thread, that should put out the same.

        Returns:
            Both, in this order; None where the model is not the recorded one.

        Raises:
            EngineError: a session failed.
        """
        if content != self._content:
            return None
        if not self.known(0, outputs(session, self.loader.load(0)[0], model=_NAME)):
            return None
        run = _Memorized(twin)
        return _Known(self, session, run), run

    def known(self, batch: int, found: Floats) -> bool:
        """Whether these are the recorded outputs, [N, classes], of a batch whose images have not changed."""
        first = batch * self.loader.batch_size
        recorded = self._digests[first : first + len(found)]
        return np.array_equal(recorded, _digests_of(self.loader.image_keys(batch), found))


def _digests_of(image_keys: Sequence[str], found: Floats) -> Digests:
    """Of the outputs [N, classes] on some images: [N, 16]."""
    kind = found.dtype.str.encode()
    made = (
        hashlib.blake2b(key.encode() + kind + row.tobytes(), digest_size=_DIGEST_BYTES).digest()
        for key, row in zip(image_keys, found, strict=True)
    )
    return np.frombuffer(b"".join(made), np.uint8).reshape(len(found), _DIGEST_BYTES)


class _Recording:
    """A session the digests of whose outputs are kept, at the positions of the images in the whole set."""

    def __init__(
        self, session: InferenceSession, loader: DataLoader, positions: npt.NDArray[np.intp], table: Digests
    ) -> None:
        self._session, self._loader, self._positions, self._table = session, loader, positions, table

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        keys = self._loader.image_keys(batch)
        found = outputs(self._session, images())
        if self._loader.image_keys(batch) == keys:  # no image changed in between
            first = batch * self._loader.batch_size
            self._table[self._positions[first : first + len(found)]] = _digests_of(keys, found)
        return found


class _Memorized:
    """A session that is run once for the batch that a thread has in work."""

    def __init__(self, session: InferenceSession) -> None:
        self._session, self._memory = session, threading.local()

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        last: tuple[int, Floats] | None = getattr(self._memory, "last", None)
        if last is None or last[0] != batch:
            last = self._memory.last = batch, outputs(self._session, images(), model=_NAME)
        return last[1]


class _Known:
    """A session that is run where its twin does not put out what was recorded."""

    def __init__(self, judged: JudgedOutputs, session: InferenceSession, twin: _Memorized) -> None:
        self._judged, self._session, self._twin = judged, session, twin

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        found = self._twin.logits(batch, images)
        return found if self._judged.known(batch, found) else outputs(self._session, images(), model=_NAME)
