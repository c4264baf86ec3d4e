"""What a model file holds, how ONNX Runtime will run it, and what tells two files apart."""

from __future__ import annotations

from quantize.inspection.difference import Difference, differences
from quantize.inspection.facts import ModelFacts, inspect_model
from quantize.inspection.show import differences_text, model_text, operators_text, tensor_text
from quantize.inspection.tensors import TensorFacts, tensor_facts

__all__ = [
    "Difference",
    "ModelFacts",
    "TensorFacts",
    "differences",
    "differences_text",
    "inspect_model",
    "model_text",
    "operators_text",
    "tensor_facts",
    "tensor_text",
]
