"""Exponentials and logarithms against forty digits, and bit for bit whatever numpy may use of the CPU."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Context, Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.portable_math import exp, log

DIGITS = Context(prec=40)
PROJECT = Path(__file__).resolve().parents[2]


def units_off(found: float, wanted: Decimal) -> float:
    return float(abs(Decimal(found) - wanted) / Decimal(math.ulp(float(wanted))))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.floats(-708, 709))
def test_exponentials(x: float) -> None:
    assert units_off(float(exp(x)), Decimal(x).exp(DIGITS)) <= 2


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.one_of(st.floats(1e-308, 1e308), st.floats(0.5, 2.0)))
def test_logarithms(x: float) -> None:
    assert units_off(float(log(x)), Decimal(x).ln(DIGITS)) <= 3 or x == 1.0 == 1.0 + float(log(x))


@pytest.mark.parametrize(
    ("function", "x", "wanted"),
    [
        (exp, 0.0, 1.0),
        (exp, -math.inf, 0.0),
        (exp, -1e308, 0.0),
        (exp, math.inf, math.inf),
        (exp, 5e-324, 1.0),
        (log, 1.0, 0.0),
        (log, 0.0, -math.inf),
        (log, math.inf, math.inf),
    ],
)
def test_ends(function: Callable[[float], float], x: float, wanted: float) -> None:
    assert float(function(x)) == wanted


def test_denormals_and_shapes() -> None:
    values = np.array([[5e-324, 2e-308], [1e-310, 4.0]])
    np.testing.assert_allclose(log(values), np.log(values), rtol=1e-14)
    np.testing.assert_allclose(exp(log(values)), values, rtol=1e-12)
    assert math.isnan(float(exp(math.nan)))


@pytest.mark.robustness(
    "Same bytes",
    "numpy is told not to use AVX2 and AVX-512",
    "exponentials, logarithms and divergences have the same bits",
)
def test_the_same_bits_without_vector_instructions() -> None:
    script = (
        "import numpy as np, hashlib; from quantize.metrics import divergences; "
        "from quantize.portable_math import exp, log; r = np.random.default_rng(1); "
        "x = r.normal(0, 9, (50, 1000)); y = (x + r.normal(0, 0.1, x.shape)).astype(np.float32); "
        "print(hashlib.sha256(exp(x).tobytes() + log(np.abs(x)).tobytes() "
        "+ divergences(x.astype(np.float32), y).tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(PROJECT), "NPY_DISABLE_CPU_FEATURES": hidden},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hidden in ("", "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL", "AVX2 FMA3")
    }
    assert len(found) == 1
