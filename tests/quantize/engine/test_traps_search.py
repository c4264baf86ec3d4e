"""Traps 11 to 15 of DESIGN.md, about the search; where it is cheap, the engine is shown to fall into them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantize import engine
from quantize.engine.compatibility import contained
from quantize.errors import InputError

PROJECT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("strategy", ["mse", "hawq_v2", "tpe", "random", "auto", "Basic", ""])
def test_trap_11_broken_strategies_are_refused(kit: Any, strategy: str) -> None:
    """mse, hawq_v2, tpe and random do not work with onnxrt; tpe installs packages."""
    with pytest.raises(InputError, match="is not supported; use sensitivity, basic") as caught:
        engine.tune(kit.build_task(), kit.build_options(strategy=strategy))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("strategy", engine.SUPPORTED_STRATEGIES)
def test_trap_11_supported_strategies_run(kit: Any, tmp_path: Path, strategy: str) -> None:
    """The others of the engine's strategies run, within the number of trials they are given."""
    result = engine.tune(kit.build_task(), kit.build_options(strategy=strategy, max_trials=3))
    assert result.met
    assert 1 <= len(result.trials) <= 3
    assert kit.coverage_of(result.model, tmp_path).integer["QLinearConv"] == 4


@pytest.mark.parametrize(
    "strategy", ["sensitivity", "basic", "bayesian", "exhaustive", "mse_v2", "conservative"]
)
def test_trap_11_trials_are_bounded(kit: Any, strategy: str) -> None:
    """mse_v2 and conservative set `re_quant`, with which the engine goes on past max_trials."""
    harm = kit.Harm(dict.fromkeys(kit.WEIGHTED, 0.15))
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01, strategy=strategy, max_trials=4))
    assert len(result.trials) <= 4
    assert not result.met
    assert result.stopped_by == ("exhausted" if strategy == "conservative" else "trials")


def test_trap_12_fallbacks_accumulate_in_order_of_sensitivity(kit: Any) -> None:
    """`basic` tries a hundred single fallbacks and ends before it accumulates them."""
    harm = kit.Harm({"project": 0.1, "stem": 0.3, "classifier": 0.2})
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01))
    fallbacks = [trial.fp32_operators for trial in result.trials if trial.fp32_operators]
    assert [set(names) for names in fallbacks] == [
        {"stem"},
        {"stem", "classifier"},
        {"stem", "classifier", "project"},
    ]
    measured = {name: share for name, share in result.sensitivity.items() if share}
    assert measured == pytest.approx(harm.shares)


class CallableJudge:
    """A judge whose source text names what the engine refuses: import os, os.system, subprocess."""

    def __init__(self, judge: Any) -> None:
        self.judge, self.calls = judge, 0

    def __call__(self, model: onnx.ModelProto) -> float:
        import os  # noqa: F401  # what the engine's scan looks for

        assert isinstance(model, onnx.ModelProto)
        self.calls += 1
        return float(self.judge(model))


def test_trap_13_judge_is_called_once_for_the_baseline_and_once_a_trial(kit: Any) -> None:
    """The evaluation function gets a ModelProto, and its source text is scanned for `import os`."""
    harm = kit.Harm({"stem": 0.3, "project": 0.1})
    judge = CallableJudge(harm)
    task = kit.build_task(judge=judge, divergence=harm.divergence)
    before = task.model.SerializeToString()
    result = engine.tune(task, kit.build_options(0.01))
    assert judge.calls == 1 + len(result.trials)
    assert harm.judged[0] == set()  # the fp32 model comes first, and as it was given
    assert result.baseline == 0.9
    assert task.model.SerializeToString() == before


def test_trap_13_a_plain_function_may_import_os(kit: Any) -> None:
    """The engine's own entry point refuses functions that contain `import os`."""
    judge = kit.RealJudge(kit.make_prepared())

    def plain(model: onnx.ModelProto) -> float:
        import os

        return float(judge(model)) + 0 * len(os.sep)

    assert engine.tune(kit.build_task(judge=plain), kit.build_options()).met


@pytest.mark.parametrize("tolerance", [0, 0.5, np.float64(0.25), float(np.nextafter(1.0, 0.0))])
def test_trap_14_any_tolerance_reaches_the_engine_as_a_float(kit: Any, tolerance: float) -> None:
    """`AccuracyCriterion.tolerable_loss` must be a `float` below 1; an int 0 is refused."""
    judge = kit.Harm({})
    result = engine.tune(
        kit.build_task(judge=judge, divergence=judge.divergence), kit.build_options(tolerance)
    )
    assert result.met


def test_trap_14_a_loss_of_exactly_the_tolerance_is_accepted(kit: Any) -> None:
    """0.80 - 0.79 > 0.01 in binary: the engine compares without slack, our criterion with it."""
    from quantize.criterion import Criterion

    harm = kit.Harm({"stem": 0.01})
    harm_judge = lambda model: 0.80 - harm.divergence(model)  # noqa: E731
    options = kit.build_options(0.0)
    options = type(options)(criterion=Criterion("absolute", 0.01), calibration_samples=12)
    result = engine.tune(kit.build_task(judge=harm_judge, divergence=harm.divergence), options)
    assert (result.met, result.trial.fp32_operators, result.stopped_by) == (True, (), "criterion")


def test_trap_14_shared_defaults_are_not_mutated(kit: Any) -> None:
    """The defaults of the engine's configuration are objects that all configurations share."""
    with contained(workspace=None, seed=1, verbose=False):
        from neural_compressor import PostTrainingQuantConfig, config

    def shown(value: Any) -> Any:
        return {key: shown(v) if hasattr(v, "__dict__") else repr(v) for key, v in vars(value).items()}

    before = shown(PostTrainingQuantConfig()), shown(config.options)
    options = kit.build_options(
        0.31, max_trials=7, timeout_s=5.0, op_wise={"stem": {"weight": {"dtype": "fp32"}}}
    )
    engine.tune(kit.build_task(), options)
    assert (shown(PostTrainingQuantConfig()), shown(config.options)) == before


def test_trap_14_timeout_zero_stops_at_the_first_success(kit: Any) -> None:
    """timeout=0 means: stop at the first trial that passes."""
    result = engine.tune(kit.build_task(), kit.build_options(timeout_s=0.0))
    assert (len(result.trials), result.stopped_by) == (1, "criterion")


@pytest.mark.parametrize("timeout_s", [0.9, 60.0])
def test_trap_14_a_timeout_goes_on_and_a_slower_trial_may_win(kit: Any, timeout_s: float) -> None:
    """The engine refuses a trial that is slower than the best so far, however accurate it is."""

    class Slower:
        """Every trial is a little more accurate than the one before, and so slow that the clock shows it."""

        def __init__(self) -> None:
            self.calls = -1

        def __call__(self, model: Any) -> float:
            self.calls += 1
            sum(range(100_000 * max(self.calls, 0)))
            return 0.9 if self.calls == 0 else 0.8 + 0.01 * self.calls

    result = engine.tune(kit.build_task(judge=Slower()), kit.build_options(0.2, timeout_s=timeout_s))
    assert len(result.trials) > 1
    assert all(trial.met for trial in result.trials)
    assert result.trial == result.trials[-1]


def test_trap_14_the_deadline_is_kept_after_the_first_trial(kit: Any) -> None:
    """The engine's own time limit interrupts the main thread, and its `fit` then returns None."""
    now = [0.0]

    def judge(model: Any) -> float:
        now[0] += 4.0  # the baseline takes 4 s, so does every trial
        return 0.9 if now[0] == 4.0 else 0.1

    def tuned(timeout_s: float) -> engine.EngineResult:
        now[0] = 0.0
        task = kit.build_task(judge=judge, clock=lambda: now[0])
        return engine.tune(task, kit.build_options(timeout_s=timeout_s))

    assert (len(tuned(1.0).trials), tuned(1.0).stopped_by) == (1, "timeout")
    assert len(tuned(14.0).trials) == 3  # they end after 8, 12 and 16 s
    assert tuned(14.0).trials[0].duration_s == 4.0  # without the baseline


def run_measured(tmp_path: Path, outcome: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `measure_restoration.py` in an interpreter and a folder of its own."""
    folder, temporary = tmp_path / "work", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    return subprocess.run(
        [sys.executable, Path(__file__).parent / "measure_restoration.py", outcome],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)} | environment,
    )


@pytest.mark.parametrize("outcome", ["succeeds", "fails"])
def test_trap_15_everything_is_put_back(tmp_path: Path, outcome: str) -> None:
    """Importing takes over loggers and the environment; running seeds, changes options and writes files."""
    done = run_measured(
        tmp_path,
        outcome,
        CUDA_VISIBLE_DEVICES="0,1",
        CUDA_DEVICE_ORDER="PCI_BUS_ID",
        LOGLEVEL="7q",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    differences, registries = json.loads(done.stdout.splitlines()[-1])
    assert differences == []
    # The engine's own adaptor is back, and its options are its own.
    assert "TaskAdaptor" not in registries
    assert "nc_workspace" in registries
    # Only the second of the three runs was verbose; it is heard although the engine was imported before.
    assert done.stderr.count("neural_compressor: Execute the tuning process") == 1


def test_trap_15_engine_alone_takes_over(tmp_path: Path) -> None:
    """Importing the engine clears its logger's handlers; giving it a model deletes CUDA_VISIBLE_DEVICES."""
    done = run_measured(tmp_path, "alone", CUDA_VISIBLE_DEVICES="0,1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert done.returncode == 0, done.stderr[-3000:]
