"""The models that the command `sensitivity` compares: plain ones, or parts of one that is refined once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from quantize.config import Config
from quantize.data import Data
from quantize.diagnose.ablation import Effect, Models, whole_model
from quantize.diagnose.probe import Probe
from quantize.errors import InputError
from quantize.export import to_qoperator
from quantize.measuring import measure_ranges
from quantize.qdq import Plan, write_qdq
from quantize.ranges import EXTREME_RULES, RangeTable
from quantize.refine import Draft, Refiner
from quantize.refining import begin_refinement
from quantize.report.refinement import refinement_lines
from quantize.scales import ActivationScale
from quantize.source import Source
from quantize.stages import Stages
from quantize.target import Target


@dataclass(frozen=True)
class Begun:
    """The integer model as a whole, and the means to vary it.

    Attributes:
        rule: how the ranges of its activations were chosen.
        effect: what it does.
        models: it, and its variations.
    """

    rule: str
    effect: Effect
    models: Models


def begin(
    config: Config,
    source: Source,
    data: Data,
    stages: Stages,
    *,
    operators: Mapping[str, str],
    probe: Probe,
) -> Begun:
    """Measures the ranges, refines as configured, and measures the whole model.

    Args:
        config: says how to refine, and for which target.
        source: the fp32 model.
        data: the images.
        stages: where to say what is going on.
        operators: name -> type, of those that become integers.
        probe: measures models.

    Raises:
        InputError: it is to be refined, and there are too few images for that.
        EngineError: the runtime failed.
    """
    table = measure_ranges(config, source, data, stages)
    if config.refine.effort == "none":
        plain = {rule: _Plain(source, config.target, list(operators), table, rule) for rule in EXTREME_RULES}
        effects = {rule: whole_model(models, probe) for rule, models in plain.items()}
        # The rule that the search would try first: the least divergence of those that need no histograms.
        rule = min(effects, key=lambda name: effects[name].kl_nats)
        return Begun(rule, effects[rule], plain[rule])
    stages.say(f"refining the model once ({config.refine.effort}); every measurement takes it apart")
    source, _, refiner = begin_refinement(config, source, data, table, stages)
    if refiner is None:
        raise InputError(
            "--refine: too few images to choose between variants; give more images, or --refine=none"
        )
    refined = _Refined(config, source, list(operators), refiner)
    for line in refined.lines:
        stages.say(line)
    return Begun(refined.rule, whole_model(refined, probe), refined)


def _spelled(model: onnx.ModelProto, target: Target) -> onnx.ModelProto:
    """In QOperator form where kernels here run it: ONNX Runtime has nothing left to decide about that."""
    return to_qoperator(model) if target.on_cpu else model


@dataclass(frozen=True)
class _Plain:
    """Weights rounded to the nearest, and one rule for all ranges."""

    source: Source
    target: Target
    operators: list[str]
    table: RangeTable
    rule: str

    def whole(self) -> onnx.ModelProto:
        return self._written(self.operators)

    def alone(self, name: str) -> onnx.ModelProto:
        return self._written([name])

    def without(self, name: str) -> onnx.ModelProto:
        return self._written([other for other in self.operators if other != name])

    def _written(self, operators: list[str]) -> onnx.ModelProto:
        scales: dict[str, ActivationScale] = {
            tensor: self.table.scale(tensor, self.rule) for tensor in self.table.extremes.lows
        }
        plan = Plan(dict.fromkeys(operators, True), scales)
        return _spelled(
            write_qdq(self.source.prepared, self.source.inventory, plan, self.target), self.target
        )


class _Refined:
    """Refined once, as `tune` refines its first trial; each variation is a part of that.

    Attributes:
        rule: for the ranges of activations, as the refinement chose it.
        lines: what the refinement did, for people.
    """

    def __init__(self, config: Config, source: Source, operators: list[str], refiner: Refiner) -> None:
        self._source, self._target, self._refiner = source, config.target, refiner
        self._operators = dict.fromkeys(operators, True)
        by_name = source.inventory.by_name()
        tensors = dict.fromkeys(tensor for name in operators for tensor in by_name[name].tensors)
        self._rule_of = dict.fromkeys(sorted(tensors), config.refine.ranges)
        self._whole, report = refiner.refine(self._operators, self._rule_of)
        self.rule, self.lines = report.rule, refinement_lines(report)

    def whole(self) -> onnx.ModelProto:
        return self._written(self._whole)

    def alone(self, name: str) -> onnx.ModelProto:
        return self._written(self._refiner.alone(name, self._operators, self._rule_of))

    def without(self, name: str) -> onnx.ModelProto:
        left = {other: granular for other, granular in self._operators.items() if other != name}
        return self._written(self._refiner.without_rework(left, self._rule_of))

    def _written(self, draft: Draft) -> onnx.ModelProto:
        model = write_qdq(self._source.prepared, self._source.inventory, draft.plan(), self._target)
        return _spelled(model, self._target)
