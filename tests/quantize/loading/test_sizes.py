"""What a tensor claims and what it holds, for every element type that onnx knows."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantize.loading.sizes import BITS, SizeError, check_size, claimed_bytes

NAMES = {number: name for name, number in TensorProto.DataType.items()}
SHAPE = [3, 5]


def test_every_type_of_this_onnx_has_a_size() -> None:
    unknown = set(NAMES) - set(BITS) - {TensorProto.UNDEFINED, TensorProto.STRING}
    assert {NAMES[number] for number in unknown} == set()


@pytest.mark.parametrize("kind", sorted(BITS), ids=lambda kind: NAMES[kind])
@pytest.mark.parametrize("raw", [False, True])
def test_honest_tensors_pass(kind: int, raw: bool) -> None:
    values = np.ones(SHAPE).astype(helper.tensor_dtype_to_np_dtype(kind))
    if raw:
        tensor = onnx.numpy_helper.from_array(values, "w")
    else:
        tensor = helper.make_tensor("w", kind, SHAPE, values)
    assert tensor.data_type == kind
    check_size(tensor)
    tensor.dims[0] = 9
    with pytest.raises(SizeError, match="initializer 'w' claims"):
        check_size(tensor)


def test_numbers_and_empty_tensors() -> None:
    for shape in ([], [0], [4, 0]):
        tensor = onnx.numpy_helper.from_array(np.zeros(shape, np.float32), "w")
        check_size(tensor)
        assert claimed_bytes(tensor) == 4 * int(np.prod(shape))
    check_size(TensorProto(dims=[0], data_type=TensorProto.FLOAT))
    with pytest.raises(SizeError, match="a constant without name claims 1 numbers"):
        check_size(TensorProto(data_type=TensorProto.FLOAT))


def test_strings() -> None:
    check_size(helper.make_tensor("s", TensorProto.STRING, [2], [b"a", b"b"]))
    for shape in ([3], [-2]):
        with pytest.raises(SizeError, match="but holds 2 strings"):
            check_size(TensorProto(dims=shape, data_type=TensorProto.STRING, string_data=[b"a", b"b"]))


def test_two_fields_at_once() -> None:
    for more in ({"raw_data": bytes(8)}, {"int32_data": [1]}):
        with pytest.raises(SizeError):
            check_size(TensorProto(dims=[2], data_type=TensorProto.FLOAT, float_data=[1, 2], **more))
