"""Whether an exported model still computes the same, measured on the model that it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Agreement:
    """The outputs of two models on the same images.

    Attributes:
        images: how many were compared.
        equal_images: on how many all outputs have the same bits.
        max_abs_difference: the largest difference of any output.
    """

    images: int
    equal_images: int
    max_abs_difference: float

    @classmethod
    def of(cls, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Agreement:
        """Compares [N, …] with [N, …].

        Raises:
            ValueError: they do not have the same shape and type.
        """
        if left.shape != right.shape or left.dtype != right.dtype:
            raise ValueError(
                f"expected outputs alike, got {left.dtype} {left.shape} and {right.dtype} {right.shape}"
            )
        equal = sum(one.tobytes() == other.tobytes() for one, other in zip(left, right, strict=True))
        with np.errstate(invalid="ignore"):  # of infinities; NaN says that there is no difference to tell
            difference = np.abs(left.astype(np.float64) - right.astype(np.float64))
        return cls(len(left), equal, float(difference.max(initial=0.0)))

    @property
    def bit_equal(self) -> bool:
        """Whether not a single bit differs."""
        return self.equal_images == self.images

    @property
    def sentence(self) -> str:
        """The same for a person."""
        if self.bit_equal:
            return f"outputs are equal bit for bit on {self.images} images"
        return (
            f"outputs differ by at most {self.max_abs_difference:.3g} on {self.images} images "
            f"({self.equal_images} of them equal bit for bit)"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "images": self.images,
            "equal_images": self.equal_images,
            "max_abs_difference": self.max_abs_difference,
            "bit_equal": self.bit_equal,
        }
