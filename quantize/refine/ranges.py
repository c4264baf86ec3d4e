"""Pass: the rule that gives each activation tensor its range, chosen by what it does to the scores.

No constant rule wins on all networks: quantiles of the images' extremes are best where a minority of images
has massive activations (MobileNetV2), and worst where every image fills its range; and a free choice per
tensor overfits the selection images (DESIGN, "The refinement recipe"). So one rule is chosen for all
tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantize.qdq import settled_scales
from quantize.ranges import RangeTable
from quantize.refine.network import Draft, Network
from quantize.refine.options import AUTO
from quantize.scales import ActivationScale, activation_scale

# What is tried: rules that the images' extremes suffice for, and with full effort those that need histograms.
FAST_RULES = ("quantile", "median", "mean", "quantile90", "minmax")
FULL_RULES = (*FAST_RULES, "mse", "percentile", "kl")


def draft_with(
    network: Network, operators: Mapping[str, bool], rule_of: Mapping[str, str], table: RangeTable, rule: str
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
    return Draft(dict(operators), settled_scales(network.model, network.inventory, operators, tied))


def _tied(
    network: Network, operators: Iterable[str], scales: Mapping[str, ActivationScale]
) -> dict[str, ActivationScale]:
    """One scale for all operands and the result of a Concat, which then copies integers as they are."""
    result = dict(scales)
    for name, operator in network.inventory.by_name().items():
        if operator.op_type != "Concat" or name not in operators:
            continue
        members = [t for t in (*operator.inputs, operator.output) if t in result]
        bounds = [result[t].bounds for t in members]
        shared = activation_scale(min(low for low, _ in bounds), max(high for _, high in bounds))
        result.update(dict.fromkeys(members, shared))
    return result
