"""Exponential and logarithm with the same bits on every CPU.

numpy's choose their code by the CPU: with AVX-512 the last bit is another one than without (measured, numpy
1.26), and so would be every divergence of a report and, where two candidates are close, a decision. These
take nothing but additions, multiplications, divisions and rounding, which IEEE 754 defines to the bit and
which numpy leaves alone. The exponential is within 2 units of the last place of the exact value, the
logarithm within 3.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_LN2 = Fraction("0.69314718055994530941723212145817656807550013436025")
# The product of 32 bits and an exponent of at most 11 is exact.
_LN2_HIGH = math.ldexp(math.floor(_LN2 * (1 << 32)), -32)
_LN2_LOW = float(_LN2 - Fraction(_LN2_HIGH))
_LOG2E = float(1 / _LN2)

# Of |r| <= ln(2) / 2, r^14 / 14! is below 5e-18.
_EXP_TERMS = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
# Below it, exp is less than half of the least positive float64; above it, more than the largest.
_EXP_LEAST, _EXP_MOST = -745.2, 709.79

# Of |s| <= (sqrt(2) - 1) / (sqrt(2) + 1), s^22 / 23 is below 1e-18.
_LOG_TERMS = tuple(1.0 / n for n in range(21, 0, -2))
_ROOT_HALF = math.sqrt(0.5)


def exp(values: npt.ArrayLike) -> Doubles:
    """The exponential of each value, float64 of any shape; 0 and infinity where float64 ends.

    `x = k ln(2) + r` with integer k, then `2^k` times the Taylor series of `exp(r)`.
    """
    x = np.asarray(values, dtype=np.float64)
    bounded = np.clip(x, _EXP_LEAST, _EXP_MOST)
    k = np.rint(bounded * _LOG2E)
    r = (bounded - k * _LN2_HIGH) - k * _LN2_LOW
    with np.errstate(over="ignore", under="ignore"):
        result: Doubles = np.ldexp(_polynomial(r, _EXP_TERMS), k.astype(np.int32))
    return result


def log(values: npt.ArrayLike) -> Doubles:
    """Natural logarithm of each value of at least 0, float64 of any shape; minus infinity of 0.

    `x = 2^e m` with m about 1, then `log(m) = 2 (s + s^3/3 + s^5/5 + ...)` with `s = (m - 1) / (m + 1)`.
    """
    x = np.asarray(values, dtype=np.float64)
    mantissa, exponent = np.frexp(x)
    small = mantissa < _ROOT_HALF
    m = np.where(small, mantissa * 2.0, mantissa)
    e: Doubles = np.subtract(exponent, small, dtype=np.float64)
    s: Doubles = (m - 1.0) / (m + 1.0)
    found = e * _LN2_HIGH + (2.0 * s * _polynomial(np.square(s), _LOG_TERMS) + e * _LN2_LOW)
    result: Doubles = np.where(x > 0.0, np.where(np.isinf(x), np.inf, found), -np.inf)
    return result


def _polynomial(x: Doubles, coefficients: tuple[float, ...]) -> Any:
    """Horner's scheme, highest power first."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
