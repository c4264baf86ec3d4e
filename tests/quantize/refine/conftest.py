"""Refiners of small networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantize.refine import Network, RefineOptions, Refiner
from quantize.refine.judge import Judge
from quantize.session import input_shape, make_session
from tests.quantize.models import Case

MakeRefiner = Callable[..., Refiner]


def network_of(case: Case) -> Network:
    return Network(case.prepared, case.inventory, case.target, case.signature.probabilities)


def rules_of(case: Case, rule: str = "auto") -> dict[str, str]:
    return {tensor: rule for operator in case.inventory.quantizable for tensor in operator.tensors}


def as_model_takes_them(case: Case, images: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    repeat = input_shape(make_session(case.prepared, threads=1))[0] or 1
    return [np.repeat(image[None], repeat, axis=0) for image in images]


@pytest.fixture(scope="session")
def make_refiner() -> MakeRefiner:
    def make(case: Case, *, threads: int = 1, **options: Any) -> Refiner:
        shape = case.images.shape[1:]
        selection = np.random.default_rng(77).normal(0, 1, (6, *shape)).astype(np.float32)
        network = network_of(case)
        return Refiner(
            network,
            case.ranges,
            as_model_takes_them(case, case.images),
            Judge(network, [image[None] for image in selection], threads=threads),
            RefineOptions(**options),
            threads=threads,
        )

    return make
