"""Runs the engine's search over one model and reports honestly what came of it.

The engine's own entry point catches every exception, interrupts included, and returns None; its log then says
that trials or time ran out. So the strategy is driven directly here, and errors keep their names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quantize.engine.compatibility import contained
from quantize.engine.restrictions import translate
from quantize.engine.types import EngineOptions, EngineResult, Judge, Task, TrialListener
from quantize.errors import EngineError, InputError, PipelineError
from quantize.operators import FloatOperator

if TYPE_CHECKING:
    from quantize.engine.strategy import Recorder

# The engine's own strategies that run with ONNX Runtime 1.32, and ours. The others cannot: mse breaks on Clip
# and Relu, hawq_v2 needs gradients, tpe installs packages while it runs, random materialises 6^53
# configurations.
SUPPORTED_STRATEGIES = ("sensitivity", "basic", "bayesian", "exhaustive", "mse_v2", "conservative")

# The engine compares accuracies without slack for rounding; `Criterion` allows this much.
_ROUNDING_SLACK = 1e-12

_MESSAGE_LIMIT_CHARACTERS = 300

# The engine refuses 1; the largest float below it.
_LARGEST_LOSS = math.nextafter(1.0, 0.0)


def tune(task: Task, options: EngineOptions, listener: TrialListener = lambda trial: None) -> EngineResult:
    """Searches for a quantized model that meets the criterion.

    Args:
        task: the model and the means to judge it.
        options: how to search.
        listener: told of every trial as it ends.

    Returns:
        The accepted model, or the most accurate one with `met` False if none was acceptable.

    Raises:
        InputError: the strategy is unknown, the restrictions leave nothing to quantize, the workspace cannot
            be written to, or the fp32 model is right on no image.
        EngineError: the engine failed.
    """
    if options.strategy not in SUPPORTED_STRATEGIES:
        raise InputError(
            f"strategy {options.strategy!r} is not supported; use {', '.join(SUPPORTED_STRATEGIES)}"
        )
    if not task.inventory.weighted_count():
        raise InputError(
            "the model has no Conv, Gemm or MatMul with constant fp32 weights; nothing can be quantized"
        )
    try:
        with contained(workspace=options.workspace, seed=options.seed, verbose=options.verbose):
            return _search(task, options, listener)
    except (PipelineError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        # Helpers of the engine call exit(0), which would end the program as a success.
        cause = " ".join(str(error).split())[:_MESSAGE_LIMIT_CHARACTERS] or "no message"
        raise EngineError(f"the tuning engine failed: {type(error).__name__}: {cause}") from error


def _search(task: Task, options: EngineOptions, listener: TrialListener) -> EngineResult:
    from quantize.engine.adaptor import DeadlineReached
    from quantize.engine.strategy import Recorder

    operators = task.inventory.quantizable
    recorder = Recorder(
        options.criterion, frozenset(o.name for o in operators if o.weighted), listener, options.workspace
    )
    optype_wise, type_warnings = translate("optype_wise", options.optype_wise, (o.op_type for o in operators))
    op_wise, name_warnings = translate("op_wise", options.op_wise, (o.name for o in operators))
    strategy = _strategy(task, options, _settings(options, optype_wise, op_wise), recorder)
    kept = _kept_in_fp32(strategy)
    if not recorder.computes_integers(kept):
        raise InputError(
            "op_wise and optype_wise keep every weighted operator in fp32; nothing is left to quantize"
        )
    try:
        strategy.traverse()
    except DeadlineReached:
        recorder.stopped_by = "timeout"
    if recorder.best_trial is None or recorder.best_model is None:
        raise EngineError(f"no trial finished: strategy {options.strategy} proposed none")
    return EngineResult(
        model=recorder.best_model,
        fp32=task.model,
        met=recorder.best_trial.met,
        trial=recorder.best_trial,
        trials=tuple(recorder.trials),
        baseline=float(strategy.baseline[0]),
        fp32_operators=_left_in_fp32(task, options, recorder, kept),
        sensitivity=dict(recorder.sensitivity),
        stopped_by=recorder.stopped_by,
        warnings=type_warnings + name_warnings,
        divergence_without=_divergence_without(strategy.adaptor, recorder),
    )


def _divergence_without(adaptor: Any, recorder: Recorder) -> Callable[[str | None], float]:
    """Measures the best model again, with one more operator in fp32."""
    states = recorder.best_states
    adaptor.deadline_s = None  # that was the search's

    def measure(left: str | None) -> float:
        (nats,) = adaptor.divergences([{key: state for key, state in states.items() if key[0] != left}])
        return float(nats)

    return measure


def _strategy(task: Task, options: EngineOptions, settings: Any, recorder: Recorder) -> Any:
    """The engine's strategy object, wired to our adaptor."""
    from neural_compressor.adaptor import FRAMEWORKS
    from neural_compressor.config import _Config
    from neural_compressor.model import Model

    from quantize.engine.adaptor import RefinedAdaptor
    from quantize.engine.strategy import recorded

    # Classes of this run, so that two runs in one process share nothing.
    adaptor_class = type("TaskAdaptor", (RefinedAdaptor,), {"task": task})
    strategy_class = recorded(options.strategy)
    strategy_class.recorder = recorder
    strategy_class.known_nats = options.known_nats
    strategy_class.deadline_s = task.clock() + options.timeout_s if options.timeout_s else None
    # The table is put back by `contained`.
    FRAMEWORKS.update(dict.fromkeys(("onnxruntime", "onnxrt_qdq", "onnxrt_qlinearops"), adaptor_class))
    return strategy_class(
        model=Model(task.model, conf=settings),
        conf=_Config(quantization=settings, benchmark=None, pruning=None, distillation=None, nas=None),
        q_dataloader=task.loader,
        eval_func=_Evaluator(task.judge),
    )


def _kept_in_fp32(strategy: Any) -> frozenset[str]:
    """The names of the operators that the restrictions take out of the search."""
    # The engine makes both when it starts, unless they are there; now it is not too late to complain.
    strategy.capability = strategy.adaptor.query_fw_capability(strategy.model)
    strategy.tuning_space = strategy.build_tuning_space(strategy.config)
    searched = {item.name for item in strategy.tuning_space.query_items_by_quant_mode("static")}
    return frozenset(
        name for name, op_type in strategy.capability["opwise"] if (name, op_type) not in searched
    )


class _Evaluator:
    """The evaluation function as an object: the engine scans the source text of plain functions."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._is_baseline = True  # the engine judges the fp32 model first

    def __call__(self, model: Any) -> float:
        accuracy = float(self._judge(model))
        if not 0.0 <= accuracy <= 1.0:
            raise EngineError(f"judging a model gave {accuracy}, which is not a fraction of the images")
        if self._is_baseline and accuracy == 0.0:
            raise InputError(
                "the fp32 model is right on no evaluation image, so nothing can be proven: labels or "
                "transforms do not fit the model; check --label_path and the configuration's transform"
            )
        self._is_baseline = False
        return accuracy


def _settings(options: EngineOptions, optype_wise: dict[str, Any], op_wise: dict[str, Any]) -> Any:
    """The engine's configuration.

    Everything is set that the engine would otherwise decide by the machine it runs on or share between runs:
    reduce_range (by VNNI), precisions (by bf16), default objects (shared module state).
    """
    from neural_compressor import PostTrainingQuantConfig
    from neural_compressor.config import AccuracyCriterion, TuningCriterion

    tuning = TuningCriterion(max_trials=options.max_trials, timeout=options.timeout_s)
    tuning._strategy = options.strategy  # the public setter knows only the engine's own names
    criterion = AccuracyCriterion(
        criterion=options.criterion.kind,
        tolerable_loss=min(float(options.criterion.tolerance) + _ROUNDING_SLACK, _LARGEST_LOSS),
    )
    settings = PostTrainingQuantConfig(
        approach="static",
        quant_format="QDQ",
        quant_level=1,
        calibration_sampling_size=[options.calibration_samples],
        reduce_range=False,
        excluded_precisions=["bf16", "fp16"],
        recipes={"gemm_to_matmul": False, "graph_optimization_level": "ENABLE_BASIC"},
        accuracy_criterion=criterion,
        tuning_criterion=tuning,
    )
    # Already checked by `translate`; the public setters know only the engine's own range rules.
    settings._op_type_dict, settings._op_name_dict = optype_wise or None, op_wise or None
    return settings


def _left_in_fp32(
    task: Task, options: EngineOptions, recorder: Recorder, kept: frozenset[str]
) -> tuple[FloatOperator, ...]:
    """Every compute operator that is not an integer in the best model, with the reason."""
    assert recorder.best_trial is not None
    kinds = task.inventory.by_name()
    chosen = []
    for name in recorder.best_trial.fp32_operators:
        saved = recorder.sensitivity.get(name)
        reason = f"strategy {options.strategy} left it in fp32"
        if name in kept:
            reason = "the configuration keeps it in fp32"
        elif saved is not None:
            reason = f"int8 missed the criterion; in fp32 it saves {saved:.4f} nats of divergence"
        chosen.append(FloatOperator(name, kinds[name].op_type, reason, fallback=True))
    return (*chosen, *task.inventory.floating)
