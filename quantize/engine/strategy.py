"""Strategies for the engine: ours, and the engine's own with their trials recorded."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
from neural_compressor.strategy.strategy import STRATEGIES, TuneStrategy
from neural_compressor.strategy.utils.tuning_structs import OpTuningConfig

from calibration.progress import track
from quantize.criterion import Criterion
from quantize.diagnose.sensitivity import most_harmful_first
from quantize.engine.adaptor import OperatorState, RefinedAdaptor
from quantize.engine.types import Trial, TrialListener
from quantize.files import atomic_write_bytes
from quantize.model import serialize
from quantize.ranges import EXTREME_RULES, HISTOGRAM_RULES
from quantize.refine import AUTO

_ALGORITHM = ("activation", "algorithm")


class Recorder:
    """What is kept of a search: every trial, and the model of the best one.

    Attributes:
        trials: in order.
        best_model, best_trial: among trials that met the criterion the one with the fewest operators in fp32,
            then the most accurate; before any met it, the most accurate with an integer weighted operator.
            The earlier one wins a tie.
        best_states: the tuning configuration that `best_model` was made of.
        sensitivity: operator name -> KL divergence saved by leaving it in fp32.
        stopped_by: why the search ended, as in `EngineResult`.
    """

    def __init__(
        self, criterion: Criterion, weighted: frozenset[str], listener: TrialListener, folder: Path | None
    ) -> None:
        self._folder = folder
        self.criterion = criterion
        self._weighted = weighted
        self._listener = listener
        self.stopped_by = "exhausted"
        self.trials: list[Trial] = []
        self.best_model: onnx.ModelProto | None = None
        self.best_trial: Trial | None = None
        self.best_states: Mapping[tuple[str, str], OperatorState] = {}
        self.sensitivity: dict[str, float] = {}

    def add(
        self, trial: Trial, model: onnx.ModelProto, states: Mapping[tuple[str, str], OperatorState]
    ) -> None:
        """Keeps a finished trial; its model too, as `trial-NNN.onnx`, where the user named a workspace."""
        if self._folder is not None:
            atomic_write_bytes(self._folder / f"trial-{trial.number:03d}.onnx", serialize(model))
        self.trials.append(trial)
        if self.best_trial is None or self._merit(trial) > self._merit(self.best_trial):
            self.best_trial, self.best_model, self.best_states = trial, model, states
        self._listener(trial)

    def met(self) -> bool:
        """Whether some trial met the criterion."""
        return self.best_trial is not None and self.best_trial.met

    def computes_integers(self, fp32_operators: Iterable[str]) -> bool:
        """Whether a weighted operator is an integer when those are not."""
        return bool(self._weighted.difference(fp32_operators))

    def _merit(self, trial: Trial) -> tuple[bool, bool, int, float]:
        integers = self.computes_integers(trial.fp32_operators)
        return trial.met, integers, -len(trial.fp32_operators) if trial.met else 0, trial.accuracy


class _Recorded:
    """Mixed into a strategy of the engine: records each trial, and writes no pickles."""

    recorder: Recorder
    adaptor: RefinedAdaptor
    deadline_s: float | None

    def _save(self) -> None:
        """The engine would pickle its whole state after every trial, for a resume that does not work."""

    def _recover_best_qmodel_from_tuning_cfg(self) -> None:
        """The engine would quantize once more at the end, for a model that the recorder already has."""

    def stop(self, timeout: float, trials_count: int) -> bool:
        """Called by the engine after every trial; whether to end the search."""
        strategy: Any = self
        trial = self._trial()
        self.recorder.add(trial, strategy.last_qmodel.model, strategy.last_tune_cfg["op"])
        self.adaptor.deadline_s = self.deadline_s
        accepted = strategy.best_tune_result
        finished: bool = super().stop(timeout, trials_count)  # type: ignore[misc]  # of the strategy mixed with
        out_of_trials: bool = trials_count >= strategy.config.tuning_criterion.max_trials
        if not trial.met and strategy.best_tune_result is not accepted:
            # As accurate as fp32 because nothing in it is an integer: the engine must not settle for that.
            strategy.best_tune_result, finished = accepted, out_of_trials
        if out_of_trials:
            strategy.re_quant = False  # with it set, mse_v2 and conservative would go on for ever
        if finished and not strategy.re_quant:
            self.recorder.stopped_by = "criterion" if trial.met and timeout == 0 else "trials"
        return finished

    def _trial(self) -> Trial:
        """What the engine has just judged."""
        strategy: Any = self
        plan = self.adaptor.last_plan
        assert plan is not None  # `quantize` ran for this trial
        operators = self.adaptor.task.inventory.quantizable
        left = tuple(o.name for o in operators if o.name not in plan.operators)
        baseline, accuracy = float(strategy.baseline[0]), float(strategy.last_tune_result[0])
        criterion = self.recorder.criterion
        return Trial(
            number=len(self.recorder.trials) + 1,
            accuracy=accuracy,
            decline=criterion.decline(baseline, accuracy),
            met=criterion.met(baseline, accuracy) and self.recorder.computes_integers(left),
            rules=self.adaptor.last_rules,
            per_channel=all(plan.operators.get(o.name, True) for o in operators if o.weighted),
            fp32_operators=left,
            duration_s=self.adaptor.task.clock() - self.adaptor.quantized_at_s,
            refinement=self.adaptor.last_refinement,
        )


class SensitivityTuneStrategy(TuneStrategy):  # type: ignore[misc]  # the engine is untyped
    """Full int8 under each range rule first; then operators left in fp32, the most harmful first.

    The rules that need only the images' extremes come before those that need histograms, which cost a second
    pass; within each group the rule with the least KL divergence on calibration images comes first. If none
    meets the criterion, the most accurate of them is kept, every operator's harm is measured (the divergence
    that disappears when it alone stays in fp32), and operators go back to fp32 one after another in that
    order, until the criterion holds or no weighted operator would be left. Once a trial has met the criterion
    no operator goes back, however much time there is: that would only be slower.
    """

    recorder: Recorder
    adaptor: RefinedAdaptor
    known_nats: Mapping[str, float] = MappingProxyType({})

    def next_tune_cfg(self) -> Iterator[dict[Any, Any]]:
        """Yields tuning configurations; the engine judges each before it asks for the next."""
        _, _, initial = self.initial_tuning_cfg()
        initial["calib_sampling_size"] = self.calib_sampling_size_lst[0]
        best, best_accuracy = initial, -1.0
        for group in ((AUTO,), EXTREME_RULES, HISTOGRAM_RULES):
            for candidate in self._ranked(
                [self._with_rule(initial, rule) for rule in group if self._offers(rule)]
            ):
                yield candidate
                if self.last_tune_result[0] > best_accuracy:
                    best, best_accuracy = candidate, self.last_tune_result[0]
        if self.recorder.met():
            return
        for operator in self._most_harmful_first(best):
            best = self._without(best, operator)
            if self.recorder.met() or not self.recorder.computes_integers(self._in_fp32(best)):
                return
            yield best

    def _offers(self, rule: str) -> bool:
        """Whether the user's restrictions leave this rule to at least one operator."""
        return any(rule in self._options(name) for name in self.capability["opwise"])

    def _options(self, operator: tuple[str, str]) -> Sequence[str]:
        path = self.tuning_space.get_op_default_path_by_pattern(operator, "static")
        if not path or "activation" not in path:
            return ()
        item = self.tuning_space.get_item_by_path((operator, *path["activation"]))
        found = item.get_option_by_name(_ALGORITHM) if item is not None else None
        return () if found is None else found.options

    def _with_rule(self, configuration: dict[Any, Any], rule: str) -> dict[Any, Any]:
        """The configuration with `rule` wherever it is allowed."""
        changed = dict(configuration)
        for name, entry in configuration.items():
            if (
                isinstance(entry, OpTuningConfig)
                and entry.op_quant_mode == "static"
                and rule in self._options(name)
            ):
                changed[name] = copy.deepcopy(entry)
                changed[name].kwargs = {**entry.kwargs, _ALGORITHM: rule}
        return changed

    def _without(self, configuration: dict[Any, Any], operator: tuple[str, str]) -> dict[Any, Any]:
        """The configuration with one more operator in fp32."""
        return {**configuration, operator: OpTuningConfig(*operator, "fp32", self.tuning_space)}

    def _in_fp32(self, configuration: dict[Any, Any]) -> list[str]:
        entries = [entry for entry in configuration.values() if isinstance(entry, OpTuningConfig)]
        return [entry.op_name for entry in entries if entry.op_quant_mode != "static"]

    def _divergences(self, configurations: Iterable[dict[Any, Any]]) -> Iterator[float]:
        states = (
            {name: e.get_state() for name, e in configuration.items() if isinstance(e, OpTuningConfig)}
            for configuration in configurations
        )
        return self.adaptor.divergences(states)

    def _ranked(self, candidates: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
        """Least divergence first; a single candidate is not worth measuring."""
        if len(candidates) < 2:
            return candidates
        nats = list(self._divergences(candidates))
        return [candidates[i] for i in sorted(range(len(candidates)), key=nats.__getitem__)]

    def _most_harmful_first(self, configuration: dict[Any, Any]) -> list[tuple[str, str]]:
        """The integer operators of a configuration, by how much divergence goes when each is left in fp32.

        What was measured before the run, and given to it, is not measured again.
        """
        integers = {
            n[0]: n
            for n, e in configuration.items()
            if isinstance(e, OpTuningConfig) and e.op_quant_mode == "static"
        }

        unknown = [name for name in integers if name not in self.known_nats]
        measured: dict[str, float] = {}
        if unknown:
            (full,) = self._divergences([configuration])
            found = track(
                self._divergences(self._without(configuration, integers[name]) for name in unknown),
                description="Measuring sensitivity",
                unit="operators",
                total=len(unknown),
                enabled=self.adaptor.task.progress,
            )
            measured = {name: full - left for name, left in zip(unknown, found, strict=True)}
        saved = {name: measured[name] if name in measured else self.known_nats[name] for name in integers}
        self.recorder.sensitivity.update(saved)
        return [integers[name] for name in most_harmful_first(saved)]


def recorded(name: str) -> type[Any]:
    """Returns the strategy class of that name with trials recorded; "sensitivity" is ours."""
    base = SensitivityTuneStrategy if name == "sensitivity" else STRATEGIES[name]
    made: type[Any] = types.new_class(f"Recorded{base.__name__}", (_Recorded, base))
    return made
