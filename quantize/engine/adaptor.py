"""Our adaptor for the engine: answers what can be quantized, and makes a model of a tuning configuration.

The engine's own adaptor measures ranges again for every trial, cuts activations to 7 bits together with the
weights, decides by the CPU it runs on, and cannot quantize Add in QDQ form. Ours gives it measured ranges and
our own writer, and leaves the search (space, strategies, criteria, exit policy) to the engine.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from neural_compressor.adaptor.onnxrt import ONNXRUNTIMEAdaptor
from neural_compressor.model.onnx_model import ONNXModel

from quantize.engine.types import Task
from quantize.operators import Operator
from quantize.parallel import in_order
from quantize.qdq import Plan, write_qdq
from quantize.ranges import RULES
from quantize.refine import AUTO, RefineReport
from quantize.weights import RoundedWeights

# Tuning configuration of one operator, as the engine's `OpTuningConfig.get_state` gives it.
OperatorState = dict[str, dict[str, Any]]

_FP32 = {"weight": {"dtype": "fp32"}, "activation": {"dtype": "fp32"}}


@dataclass(frozen=True)
class _Choice:
    """What a tuning configuration asks for.

    Attributes:
        operators: integer operators -> whether their weights get one scale per output channel.
        rule_of: activation tensor that needs a scale -> rule for its range.
        rules: the rules, most frequent first.
    """

    operators: Mapping[str, bool]
    rule_of: Mapping[str, str]
    rules: tuple[str, ...]


class DeadlineReached(Exception):
    """The tuning time is up and a trial has finished; raised between trials and caught by our own runner."""


class RefinedAdaptor(ONNXRUNTIMEAdaptor):  # type: ignore[misc]  # the engine is untyped
    """Quantizes with our ranges and our writer.

    Attributes:
        task: the model and its ranges.
        last_plan: what the last call of `quantize` wrote.
        last_rules: range rules of that plan, most frequent first.
        last_refinement: what refining that plan did; None where there is no refiner.
        quantized_at_s: when, on the task's clock, the last call of `quantize` began.
        deadline_s: value of the task's clock after which no further model is written; None is never.
    """

    task: Task
    deadline_s: float | None = None

    def __init__(self, framework_specific_info: dict[str, Any]) -> None:
        super().__init__(framework_specific_info)
        self.last_plan: Plan | None = None
        self.last_rules: tuple[str, ...] = ()
        self.last_refinement: RefineReport | None = None
        self.quantized_at_s = self.task.clock()
        self._rounded = RoundedWeights()

    def _pre_optimize(self, model: Any, level: int = 1) -> None:
        """Nothing is left to do: the model comes prepared, and its operator names must stay."""
        self.pre_optimized_model = model

    def query_fw_capability(self, model: Any) -> dict[str, Any]:
        """Tells the engine which operators it may quantize, and with which options."""
        self._pre_optimize(model)
        op_wise: OrderedDict[tuple[str, str], Any] = OrderedDict()
        for operator in self.task.inventory.quantizable:
            op_wise[operator.name, operator.op_type] = [_capability(operator, self._rules()), _FP32]
        type_wise = {op_type: entries for (_, op_type), entries in op_wise.items()}
        recipes: dict[str, list[Any]] = {
            "first_conv_or_matmul_quantization": [],
            "last_conv_or_matmul_quantization": [],
            "pre_post_process_quantization": [],
        }
        return {"optypewise": type_wise, "opwise": op_wise, "recipes_ops": recipes, "block_wise": []}

    def quantize(self, tune_cfg: dict[str, Any], model: Any, data_loader: Any, q_func: Any = None) -> Any:
        """Writes the QDQ model of one tuning configuration.

        Raises:
            DeadlineReached: the tuning time is up.
        """
        self.quantized_at_s = self.task.clock()
        self._check_deadline()
        choice = self._choose(tune_cfg["op"])
        self.last_rules = choice.rules
        if self.task.refiner is None:
            self.last_plan = self._plain(choice)
        else:
            draft, report = self.task.refiner.refine(choice.operators, choice.rule_of)
            self.last_plan, self.last_refinement = draft.plan(), report
            self.last_rules = tuple(dict.fromkeys(report.rule if r == AUTO else r for r in choice.rules))
        wrapped = ONNXModel(self.write(self.last_plan))
        wrapped.q_config = {}
        return wrapped

    def divergences(
        self, configurations: Iterable[Mapping[tuple[str, str], OperatorState]]
    ) -> Iterator[float]:
        """How far the model of each of some operator states is from fp32, in nats, in order.

        Models are written by the caller's thread, because ranges are measured for it when first needed; those
        before it are run meanwhile.

        Raises:
            DeadlineReached: the tuning time is up.
        """
        models = (self._quickly(states) for states in configurations)
        return in_order(self.task.divergence, models, workers=self.task.threads)

    def _quickly(self, states: Mapping[tuple[str, str], OperatorState]) -> onnx.ModelProto:
        """The model of operator states, of a refined one as far as it is known."""
        self._check_deadline()
        choice = self._choose(states)
        if self.task.refiner is None:
            return self.write(self._plain(choice))
        return self.write(self.task.refiner.without_rework(choice.operators, choice.rule_of).plan())

    def _get_mse_order(
        self,
        fp32_model: Any,
        tune_cfg: dict[str, Any],
        replace_cfgs: Mapping[tuple[str, str], OperatorState],
        ops_lst: Sequence[tuple[str, str]],
        *_: Any,
    ) -> dict[tuple[str, str], float]:
        """What the strategy mse_v2 orders operators by: the divergence that is left when each is replaced.

        The engine's own measure builds inference sessions of its own (all cores, whole batches, so that
        models of fixed batch size fail) and takes the squared error of the scores.
        """
        states = tune_cfg["op"]
        replaced = ({**states, operator: replace_cfgs[operator]} for operator in ops_lst)
        return dict(zip(ops_lst, self.divergences(replaced), strict=True))

    def write(self, plan: Plan) -> onnx.ModelProto:
        """The QDQ model of a plan."""
        return write_qdq(self.task.model, self.task.inventory, plan, self.task.target, known=self._rounded)

    def _rules(self) -> tuple[str, ...]:
        return RULES if self.task.refiner is None else (AUTO, *RULES)

    def _check_deadline(self) -> None:
        """Raises `DeadlineReached` when the tuning time is up."""
        if self.deadline_s is not None and self.task.clock() > self.deadline_s:
            raise DeadlineReached

    def _plain(self, choice: _Choice) -> Plan:
        """The measured ranges, and weights rounded to the nearest."""
        scales = {tensor: self.task.ranges.scale(tensor, rule) for tensor, rule in choice.rule_of.items()}
        return Plan(choice.operators, scales)

    def _choose(self, states: Mapping[tuple[str, str], OperatorState]) -> _Choice:
        """A tensor's range follows the rule of the operator that makes it, else of its first reader."""
        chosen: dict[str, bool] = {}
        rule_of: dict[str, str] = {}
        used: Counter[str] = Counter()
        for operator in self.task.inventory.quantizable:
            state = states.get((operator.name, operator.op_type))
            if state is None or state["activation"]["quant_mode"] != "static":
                continue
            rule = state["activation"].get("algorithm", RULES[0])
            chosen[operator.name] = state.get("weight", {}).get("granularity", "per_channel") == "per_channel"
            used[rule] += 1
            for tensor in operator.inputs:
                rule_of.setdefault(tensor, rule)
            rule_of[operator.output] = rule
        needed = {
            tensor
            for operator in self.task.inventory.quantizable
            if operator.name in chosen
            for tensor in operator.tensors
        }
        rules = tuple(rule for rule, _ in used.most_common())
        return _Choice(chosen, {tensor: rule_of[tensor] for tensor in sorted(needed)}, rules)


def _capability(operator: Operator, rules: Sequence[str]) -> dict[str, Any]:
    """The options of one integer operator: always uint8 activations and int8 weights, whatever the host."""
    granularity = ["per_channel", "per_tensor"] if operator.weighted else ["per_channel"]
    return {
        "weight": {"dtype": ["int8"], "scheme": ["sym"], "granularity": granularity, "algorithm": ["minmax"]},
        "activation": {
            "dtype": ["uint8"],
            "scheme": ["asym"],
            "granularity": ["per_tensor"],
            "algorithm": list(rules),
            "quant_mode": "static",
        },
    }
