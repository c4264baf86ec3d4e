"""Batches on their way to the workers that run models on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from calibration.scratch import Scratch
from quantize.metrics import Floats

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Batch = tuple[Images, Labels]


@runtime_checkable
class Batches(Protocol):
    """Batches that any worker can make, such as a `DataLoader`; other iterables are read by one thread."""

    def __len__(self) -> int: ...

    def load(self, batch: int, scratch: Scratch | None = None) -> Batch:
        """Batch number `batch`, its images in the scratch memory if that is given."""

    def labels(self, batch: int) -> Labels:
        """Its labels alone."""

    def shown(
        self, passed: Iterable[Any], image_count: Callable[[Any], int], description: str | None = None
    ) -> Generator[Any, None, None]:
        """Passes on, and reports progress."""


class Remembered(Protocol):
    """A model whose outputs may be known already."""

    def logits(self, batch: int, images: Callable[[], Images]) -> Floats:
        """Its outputs on batch number `batch`; `images` makes the images, if they are needed at all."""


# A worker is done with a batch before it makes the next.
_MEMORY = threading.local()


class Item:
    """One batch on its way to a worker, which makes the images when the first model asks for them."""

    def __init__(self, number: int, first: int, batches: Batches | None, batch: Batch | None = None) -> None:
        self.number, self.first, self._batches, self._batch = number, first, batches, batch

    @cached_property
    def batch(self) -> Batch:
        """Images and labels, made when first asked for; gone when the worker makes the next."""
        if self._batch is not None:
            return self._batch
        assert self._batches is not None
        if not hasattr(_MEMORY, "scratch"):
            _MEMORY.scratch = Scratch()
        return self._batches.load(self.number, _MEMORY.scratch)

    def images(self) -> Images:
        """The images alone."""
        return self.batch[0]

    def labels(self) -> Labels:
        """The labels alone, without making the images where that is possible."""
        return self.batch[1] if self._batches is None else self._batches.labels(self.number)


def items_of(batches: Batches | Iterable[Batch]) -> Iterator[Item]:
    """One item for each batch, in order; those of plain iterables are made here, by one thread."""
    first = 0
    if isinstance(batches, Batches):
        for number in range(len(batches)):
            yield Item(number, first, batches)
            first += len(batches.labels(number))
    else:
        for number, batch in enumerate(batches):
            yield Item(number, first, None, batch)
            first += len(batch[1])
