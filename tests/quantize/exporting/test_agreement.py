from __future__ import annotations

import numpy as np
import pytest

from quantize.exporting.agreement import Agreement


def test_equal_and_different_images() -> None:
    left = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    right = left.copy()
    assert Agreement.of(left, right) == Agreement(3, 3, 0.0)
    assert "equal bit for bit on 3 images" in Agreement.of(left, right).sentence
    right[1, 0] += np.float32(0.5)
    found = Agreement.of(left, right)
    assert found == Agreement(3, 2, 0.5)
    assert not found.bit_equal
    assert found.sentence == "outputs differ by at most 0.5 on 3 images (2 of them equal bit for bit)"
    assert found.to_json()["bit_equal"] is False


def test_zero_with_another_sign_is_not_the_same_bits() -> None:
    found = Agreement.of(np.array([[0.0]], np.float32), np.array([[-0.0]], np.float32))
    assert not found.bit_equal
    assert found.max_abs_difference == 0


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="expected outputs alike"):
        Agreement.of(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))


@pytest.mark.filterwarnings("error")
def test_infinities_are_compared_without_a_word() -> None:
    same = np.array([[np.inf, 1.0]], np.float32)
    found = Agreement.of(same, same.copy())
    assert found.bit_equal
