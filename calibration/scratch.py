"""Memory for batches that is used again: the system clears whatever new memory it hands out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


class Scratch:
    """Memory that is used again and again; for one thread."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.float32)

    def array(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """An array of that shape with anything in it, valid until the next call."""
        count = math.prod(shape)
        if self._memory.size < count:
            self._memory = np.empty(count, np.float32)
        return self._memory[:count].reshape(shape)
