"""JSON values and arrays as bytes: equal in every bit, or nothing."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from quantize.packing import packed, unpacked

NUMBERS = [np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64, np.bool_]
ARRAYS = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(values=st.dictionaries(st.text(), VALUES), arrays=st.dictionaries(st.text(), ARRAYS, max_size=4))
def test_everything_comes_back(values: dict[str, Any], arrays: dict[str, Any]) -> None:
    found = unpacked(packed(values, arrays))
    assert found is not None
    assert found[0] == values
    assert list(found[0]) == list(values), "in the same order"
    assert list(found[1]) == list(arrays)
    for name, array in arrays.items():
        back = found[1][name]
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes(), "also NaN and -0.0"
        assert (back.flags.writeable and back.flags.owndata) or back.size == 0


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    content = packed({"a": 1.5}, {"x": np.arange(3, dtype=np.float32)})
    for position in range(len(content)):
        flipped = content.copy()
        flipped[position] ^= 1 << (position % 8)
        assert unpacked(flipped) is None, position
        assert unpacked(content[:position]) is None, position
    assert unpacked(content.astype(np.int16)) is None
    assert unpacked(content[None]) is None


def test_what_is_not_contiguous_comes_back_as_it_was_indexed() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4).T[::2]
    found = unpacked(packed({}, {"x": array}))
    assert found is not None
    np.testing.assert_array_equal(found[1]["x"], array)


def test_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="expected numbers, got object"):
        packed({}, {"x": np.array([object()])})
