"""The command `sensitivity` at its core: every operator quantized alone, and every one left in fp32 alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import onnx

from quantize.diagnose.probe import Outcome, Probe


class Models(Protocol):
    """Makes the models that are compared."""

    def whole(self) -> onnx.ModelProto:
        """All operators as integers."""

    def alone(self, name: str) -> onnx.ModelProto:
        """The fp32 model with one operator as an integer."""

    def without(self, name: str) -> onnx.ModelProto:
        """The int8 model with one operator in fp32."""


@dataclass(frozen=True)
class Effect:
    """What a model does on the images of the probe; fractions of the images, and nats."""

    kl_nats: float
    agreement_fraction: float
    top1_fraction: float

    @classmethod
    def from_outcome(cls, outcome: Outcome) -> Effect:
        """Divide the counts once."""
        return cls(outcome.fidelity.kl, outcome.fidelity.agreement, outcome.counts.top1)


@dataclass(frozen=True)
class OperatorEffect:
    """Both experiments with one operator.

    Attributes:
        name, op_type: of the operator.
        alone: the fp32 model with only this operator as an integer.
        without: the int8 model with only this operator in fp32.
    """

    name: str
    op_type: str
    alone: Effect
    without: Effect


def whole_model(models: Models, probe: Probe) -> Effect:
    """All operators as integers."""
    return Effect.from_outcome(probe.outcome(models.whole()))


def ablate(
    operators: Mapping[str, str], known: Mapping[str, OperatorEffect], models: Models, probe: Probe
) -> Iterator[OperatorEffect]:
    """Measures operator after operator.

    Args:
        operators: name -> type, of all that can be integers.
        known: what need not be measured again.
        models: makes the models.
        probe: measures them.

    Yields:
        What was not known, as soon as it is.
    """
    for name, op_type in operators.items():
        if name in known:
            continue
        alone, without = (probe.outcome(one) for one in (models.alone(name), models.without(name)))
        yield OperatorEffect(name, op_type, Effect.from_outcome(alone), Effect.from_outcome(without))
