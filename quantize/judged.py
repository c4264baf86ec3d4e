"""Whether a file puts out what the trial did that it came from, without running both on every image.

The QDQ file of an accepted model holds the very graph that was judged. Run in a session of the same kind on
the same images, it would compute the same numbers a second time. Digests of what the trial put out are kept
instead, a few bytes an image: where the outputs of the QOperator file have the same digest, they are the QDQ
file's as well. That is relied on where the file as it was read back holds the judged graph byte for byte, and
a batch that is run again comes out the same. What differs is run, as are images that changed meanwhile.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

import onnx
from onnxruntime import InferenceSession

from calibration.dataloader import DataLoader
from quantize.batches import Images, Remembered
from quantize.metrics import Floats
from quantize.model import serialize
from quantize.session import outputs

_NAME = "int8 model read back"


def content_key(model: onnx.ModelProto) -> str:
    """What tells a model from others, whatever its metadata says: 64 hexadecimal digits."""
    return hashlib.sha256(serialize(model, {})).hexdigest()


class JudgedOutputs:
    """Digests of what the model that was recorded last put out, by batch.

    Args:
        loader: the evaluation images.

    Attributes:
        loader: as given.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self._content, self._digests = "", dict[int, bytes]()

    def recording(self, model: onnx.ModelProto, session: InferenceSession) -> Remembered:
        """Runs a model, and keeps digests of what it puts out in place of those of others.

        Args:
            model: that the session runs.
            session: of one thread.
        """
        self._content, self._digests = content_key(model), {}
        return _Recording(self, session)

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
        if content != self._content or not self._digests:
            return None
        batch = min(self._digests)
        if not self.known(batch, outputs(session, self.loader.load(batch)[0], model=_NAME)):
            return None
        run = _Memorized(twin)
        return _Known(self, session, run), run

    def known(self, batch: int, found: Floats) -> bool:
        """Whether these are the recorded outputs, [N, classes], of a batch whose images have not changed."""
        return self._digests.get(batch) == self._digest(batch, found)

    def _digest(self, batch: int, found: Floats) -> bytes:
        facts = f"{self.loader.batch_key(batch)}{found.dtype.str}{found.shape}"
        return hashlib.sha256(facts.encode() + found.tobytes()).digest()

    def run(self, session: InferenceSession, batch: int, images: Callable[[], Images]) -> Floats:
        """Outputs of a session, whose digest is kept if no image changes meanwhile."""
        key = self.loader.batch_key(batch)
        found = outputs(session, images())
        digest = self._digest(batch, found)
        if self.loader.batch_key(batch) == key:
            self._digests[batch] = digest
        return found


class _Recording:
    """A session the digests of whose outputs are kept."""

    def __init__(self, judged: JudgedOutputs, session: InferenceSession) -> None:
        self._judged, self._session = judged, session

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        return self._judged.run(self._session, batch, images)


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
