"""Pass: the rule that gives each activation tensor its range, chosen by what it does to the scores.

No constant rule wins on all networks: quantiles of the images' extremes are best where a minority of images
has massive activations (MobileNetV2), and worst where every image fills its range; and a free choice per
tensor overfits the selection images (DESIGN, "The refinement recipe"). So one rule is chosen for all
tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from quantize.qdq import settled_scales
from quantize.refine.network import Draft, Network
from quantize.refine.options import AUTO
from quantize.scales import ActivationScale, activation_scale

# What is tried: rules that the images' extremes suffice for, and with full effort those that need histograms.
# Of rules that tie, the first is taken, and ties are frequent: the weights of plain models make more noise
# than ranges do. Which are first depends on whether a minority of images has massive activations.
_HEAVY_TAILED = ("quantile", "median", "mean", "quantile90", "minmax")
_LIGHT_TAILED = ("quantile90", "minmax", "mean", "quantile", "median")
_OF_HISTOGRAMS = ("mse", "percentile", "kl")

# How much wider than on most images (the rule "quantile") a tensor is on all of them, at the 90th percentile
# of the tensors: 4.1 to 4.6 on MobileNetV2 for ImageNet, 1.5 to 1.8 on the four digits networks.
_HEAVY_TAIL = 3.0


class Ranges(Protocol):
    """Scales of tensors by rule."""

    def scale(self, tensor: str, rule: str) -> ActivationScale:
        """The scale of a tensor under a rule."""


def rules_for(table: Ranges, tensors: Iterable[str], *, full: bool) -> tuple[str, ...]:
    """The rules to try, those that suit the network's activations first.

    Args:
        table: measured ranges.
        tensors: activations that are rounded.
        full: whether rules that need histograms are tried as well.
    """
    tails = [_width(table.scale(t, "minmax")) / _width(table.scale(t, "quantile")) for t in tensors]
    heavy = bool(tails) and float(np.quantile(tails, 0.9)) > _HEAVY_TAIL
    return (*(_HEAVY_TAILED if heavy else _LIGHT_TAILED), *(_OF_HISTOGRAMS if full else ()))


def _width(scale: ActivationScale) -> float:
    low, high = scale.bounds
    return high - low


def draft_with(
    network: Network, operators: Mapping[str, bool], rule_of: Mapping[str, str], table: Ranges, rule: str
) -> Draft:
    """The draft in which `rule` stands for "auto".

    Args:
        network: the fp32 network.
        operators: integer operators -> one weight scale per channel.
        rule_of: tensor -> rule, "auto" among them.
        table: measured ranges.
        rule: what "auto" means.
    """
    scales = {
        tensor: table.scale(tensor, rule if given == AUTO else given) for tensor, given in rule_of.items()
    }
    tied = _tied(network, operators, scales)
    by_name, fine = network.inventory.by_name(), network.target.per_channel_operators
    granular = {name: wanted and by_name[name].op_type in fine for name, wanted in operators.items()}
    return Draft(granular, settled_scales(network.model, network.inventory, operators, tied))


def joined(network: Network, operators: Iterable[str]) -> list[list[str]]:
    """Groups of tensors that share one scale: operands and result of a Concat, which then copies integers."""
    chosen = set(operators)
    return [
        [*operator.inputs, operator.output]
        for name, operator in network.inventory.by_name().items()
        if operator.op_type == "Concat" and name in chosen
    ]


def _tied(
    network: Network, operators: Iterable[str], scales: Mapping[str, ActivationScale]
) -> dict[str, ActivationScale]:
    """One scale for all tensors of each group."""
    result = dict(scales)
    for group in joined(network, operators):
        members = [t for t in group if t in result]
        bounds = [result[t].bounds for t in members]
        shared = max((result[t] for t in members), key=lambda entry: entry.scale)
        if not network.target.signed_activations:  # symmetric ones contain each other
            shared = activation_scale(min(low for low, _ in bounds), max(high for _, high in bounds))
        result.update(dict.fromkeys(members, shared))
    return result
