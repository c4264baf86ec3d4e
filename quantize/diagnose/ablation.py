"""The command `sensitivity` at its core: every operator quantized alone, and every one left in fp32 alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from quantize.diagnose.probe import Outcome, Probe

# Names of the operators that become integers -> the model.
Writer = Callable[[Sequence[str]], onnx.ModelProto]


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


def whole_model(operators: Sequence[str], write: Writer, probe: Probe) -> Effect:
    """All operators as integers."""
    return Effect.from_outcome(probe.outcome(write(operators)))


def ablate(
    operators: Mapping[str, str], known: Mapping[str, OperatorEffect], write: Writer, probe: Probe
) -> Iterator[OperatorEffect]:
    """Measures operator after operator.

    Args:
        operators: name -> type, of all that can be integers.
        known: what need not be measured again.
        write: makes the models.
        probe: measures them.

    Yields:
        What was not known, as soon as it is.
    """
    names = list(operators)
    for name, op_type in operators.items():
        if name in known:
            continue
        alone = probe.outcome(write([name]))
        without = probe.outcome(write([other for other in names if other != name]))
        yield OperatorEffect(name, op_type, Effect.from_outcome(alone), Effect.from_outcome(without))
