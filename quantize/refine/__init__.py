"""Improves ranges, weights and biases of integer models without adding work at run time."""

from quantize.refine.network import Draft, Network
from quantize.refine.options import AUTO, Effort, RefineOptions
from quantize.refine.refiner import Refiner
from quantize.refine.report import PassReport, RefineReport

__all__ = ["AUTO", "Draft", "Effort", "Network", "PassReport", "RefineOptions", "RefineReport", "Refiner"]
