"""What each operator costs: the measurement behind the fallback order, the command and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

# Mean KL divergence from fp32, in nats, of the integer model with this operator (by name) left in fp32; of
# the whole integer model where None is given.
DivergenceWithout = Callable[[str | None], float]


def savings(operators: Iterable[str], divergence_without: DivergenceWithout) -> dict[str, float]:
    """How much divergence goes when each operator alone is left in fp32: `KL(all int8) - KL(without it)`.

    Negative where rounding in one operator happens to undo that of another.

    Args:
        operators: names of the integer operators.
        divergence_without: measures one model; called once for all operators, then once for each.

    Returns:
        Operator name -> nats, in the order given.
    """
    full = divergence_without(None)
    return {name: full - divergence_without(name) for name in operators}


def most_harmful_first(saved_nats: Mapping[str, float]) -> list[str]:
    """Operator names, the one whose return to fp32 saves most first; equal ones stay in order."""
    return sorted(saved_nats, key=lambda name: -saved_nats[name])
