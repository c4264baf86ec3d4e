"""What the property tests of numeric functions share: bounded, repeatable examples, and what each covers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Test = TypeVar("Test", bound=Callable[..., Any])

EXAMPLES = 60
FLOAT32 = np.finfo(np.float32)
# The distance of 1 from the next float64, generously: results of a handful of float64 operations.
ROUNDING = Fraction(1, 1 << 48)

# Anything that a float32 tensor may hold and that is finite: denormals, zeros, one-sided, huge.
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def covers(*functions: str, does: str) -> Callable[[Test], Test]:
    """Names the functions that a property test covers, marks its row, and bounds its examples.

    `test_numbers_coverage.py` reads the names from the source and misses none.
    """
    listed = ", ".join(name.rpartition(".")[2].strip("_") for name in functions)

    def decorate(test: Test) -> Test:
        mark = pytest.mark.robustness(
            "Numbers",
            f"{listed}: zeros, constants, one-sided ranges, denormals and huge numbers",
            does,
            times=EXAMPLES,
        )
        marked: Test = mark(settings(max_examples=EXAMPLES, derandomize=True, deadline=None)(test))
        return marked

    return decorate


def arrays(*shape: int, elements: st.SearchStrategy[float] = FINITE) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.float32, shape, elements=elements)


def within(largest: float) -> st.SearchStrategy[float]:
    """float32 numbers of at most this magnitude, denormals and zero among them."""
    return st.floats(-float(np.float32(largest)), float(np.float32(largest)), width=32)


def exact(values: npt.NDArray[Any]) -> list[Fraction]:
    """The numbers that floats stand for, without rounding."""
    return [Fraction(float(value)) for value in np.asarray(values).reshape(-1)]


def half_even(value: Fraction) -> int:
    """Rounding half to even, which Python's `round` of a fraction is, exactly."""
    return round(value)
