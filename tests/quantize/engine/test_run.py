"""The search as a whole: what is accepted, what is not, what goes back to fp32, and that it repeats."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from quantize import engine
from quantize.engine import strategy as strategy_module
from quantize.errors import EngineError, InputError
from quantize.ranges import EXTREME_RULES, RULES
from quantize.scales import ActivationScale
from quantize.session import make_session, outputs

FP32 = {"activation": {"dtype": ["fp32"]}, "weight": {"dtype": ["fp32"]}}


class DistinctRanges:
    """Gives every rule a scale of its own, so that a model shows its rule; notes which rules were asked for.

    The scales shrink: a larger one would be cut to what the Clip behind the operator lets through.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self.asked: list[str] = []

    def scale(self, tensor: str, rule: str) -> ActivationScale:
        self.asked.append(rule)
        exact = self._table.scale(tensor, "minmax")
        return ActivationScale(exact.scale * 0.5 ** RULES.index(rule), exact.zero_point)

    def rule_of(self, kit: Any, model: onnx.ModelProto, tensor: str = "p") -> str:
        ratio = kit.initializer(model, f"{tensor}_scale") / self._table.scale(tensor, "minmax").scale
        return RULES[round(-float(np.log2(ratio)))]


def test_full_int8_is_accepted_at_once(kit: Any) -> None:
    result = engine.tune(kit.build_task(), kit.build_options())
    assert result.met
    assert result.trial.fp32_operators == ()
    assert kit.integer_operators(result.model) == set(kit.WEIGHTED)
    assert result.sensitivity == {}
    assert result.warnings == ()
    # The accepted model is the judged one.
    assert kit.RealJudge(kit.make_prepared())(result.model) == result.trial.accuracy


def test_rules_come_by_divergence_extremes_before_histograms(kit: Any) -> None:
    ranges = DistinctRanges(kit.build_task().ranges)
    wanted = {"minmax": 0.1, "median": 0.15, "mean": 0.35, "quantile": 0.4, "quantile90": 0.45}
    wanted |= {"kl": 0.2, "mse": 0.3, "percentile": 0.25}
    asked_by_trial: list[set[str]] = []

    def judge(model: onnx.ModelProto) -> float:
        asked_by_trial.append(set(ranges.asked))
        return 0.5 if kit.integer_operators(model) else 0.9

    task = kit.build_task(
        ranges=ranges, judge=judge, divergence=lambda model: wanted[ranges.rule_of(kit, model)]
    )
    trials = engine.tune(task, kit.build_options(max_trials=8)).trials
    extremes, histograms = ["minmax", "median", "mean", "quantile", "quantile90"], ["kl", "percentile", "mse"]
    assert [trial.rules for trial in trials] == [(rule,) for rule in (*extremes, *histograms)]
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5, 6, 7, 8]
    # A rule that needs histograms costs a pass over the images: none is asked for before it is its turn.
    assert all(asked == set(extremes) for asked in asked_by_trial[1:6])
    assert asked_by_trial[6] == set(wanted)


def test_fallback_starts_from_the_most_accurate_rule(kit: Any) -> None:
    ranges = DistinctRanges(kit.build_task().ranges)
    accuracy = {"minmax": 0.5, "quantile": 0.6, "median": 0.45, "mean": 0.35, "quantile90": 0.3}
    accuracy |= {"kl": 0.55, "mse": 0.7, "percentile": 0.4}

    def judge(model: onnx.ModelProto) -> float:
        return accuracy[ranges.rule_of(kit, model)] if kit.integer_operators(model) else 0.9

    harm = kit.Harm({"stem": 1.0})
    task = kit.build_task(ranges=ranges, judge=judge, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01, max_trials=10))
    assert {trial.rules for trial in result.trials[8:]} == {("mse",)}
    assert result.trials[8].fp32_operators == ("stem",)
    assert (result.trial.rules, result.met, result.stopped_by) == (("mse",), False, "trials")


def test_exactly_the_harmful_operators_stay_in_fp32(kit: Any) -> None:
    harm = kit.Harm({"depthwise": 0.2, "classifier": 0.1})
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01))
    assert (result.met, result.stopped_by) == (True, "criterion")
    assert kit.integer_operators(result.model) == {"stem", "expand", "project"}
    left = {one.name: one for one in result.fp32_operators}
    assert left.keys() == {"depthwise", "classifier"}
    assert left["depthwise"].op_type == "Conv"
    assert "0.2000 nats" in left["depthwise"].reason
    assert result.trial.description == "ranges quantile, 2 in fp32"


def test_a_real_outlier_channel_goes_back_to_fp32(kit: Any) -> None:
    """One channel's weights are 3,000 times as large as the rest, which per-tensor weights round to zero.

    ReLU6 hides the channel from everything that follows, so that only this operator is harmed.
    """
    prepared = kit.make_prepared(outlier="stem")
    restriction: dict[str, Any] = {
        one.name: {"activation": {"algorithm": ["quantile"]}}
        for one in kit.build_task(prepared).inventory.quantizable
    }
    restriction["stem"]["weight"] = {"granularity": ["per_tensor"]}
    # Of 60 images fp32 has 54 right, per-channel int8 48, per-tensor int8 43 and without the stem 46.
    assert engine.tune(kit.build_task(prepared), kit.build_options(0.16)).trial.fp32_operators == ()
    result = engine.tune(kit.build_task(prepared), kit.build_options(0.16, op_wise=restriction))
    assert not result.trials[0].met
    assert max(result.sensitivity, key=lambda name: result.sensitivity[name]) == "stem"
    assert "per-tensor weights" in result.trials[0].description
    assert result.met
    assert result.trial.fp32_operators == ("stem",)


def test_one_weighted_operator_stays_an_integer_and_nothing_is_met(kit: Any) -> None:
    harm = kit.Harm(dict.fromkeys(kit.WEIGHTED, 0.1))
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01))
    assert (result.met, result.stopped_by) == (False, "exhausted")
    assert all(judged for judged in harm.judged[1:])  # no trial was fp32 throughout
    assert len(kit.integer_operators(result.model)) == 1
    assert result.trial.accuracy == max(trial.accuracy for trial in result.trials)


@pytest.mark.parametrize("name", ["basic", "mse_v2"])
def test_fp32_throughout_is_never_a_success(kit: Any, name: str) -> None:
    """The engine's own strategies do propose it, and are satisfied with it."""
    harm = kit.Harm(dict.fromkeys(kit.WEIGHTED, 0.1))
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    narrow = {".*": {"activation": {"algorithm": ["minmax"]}, "weight": {"granularity": ["per_channel"]}}}
    options = kit.build_options(0.01, strategy=name, max_trials=300, op_wise=narrow)
    result = engine.tune(task, options)
    assert any(set(kit.WEIGHTED) <= set(trial.fp32_operators) for trial in result.trials)
    assert not any(trial.met for trial in result.trials)
    assert (result.met, result.stopped_by) == (False, "exhausted")
    assert kit.integer_operators(result.model)  # what is kept is at least an int8 model
    assert all("strategy" in one.reason for one in result.fp32_operators)


def test_everything_kept_in_fp32_is_refused_before_anything_is_judged(kit: Any) -> None:
    judge = kit.Harm({})
    restriction = {"Conv|Gemm": FP32}
    with pytest.raises(InputError, match="keep every weighted operator in fp32"):
        engine.tune(kit.build_task(judge=judge), kit.build_options(optype_wise=restriction))
    assert judge.judged == []


def test_a_model_without_weights_is_refused(kit: Any) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["image"], ["scores"], "mean")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", 1, ["n", 3, 8, 8])],
        [value("scores", 1, ["n", 3, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    loader = kit.CountingLoader(kit.make_images(2, 1))
    task = engine.Task(model, kit.take_inventory(model, kit.PORTABLE), None, kit.PORTABLE, loader, None, None)
    with pytest.raises(InputError, match="no Conv, Gemm or MatMul"):
        engine.tune(task, kit.build_options())


def test_restrictions_are_honoured(kit: Any) -> None:
    options = kit.build_options(
        optype_wise={"Add": FP32},
        op_wise={
            "expand": {"activation": {"dtype": "fp32"}},
            "stem": {"activation": {"algorithm": "kl"}, "weight": {"granularity": "per_tensor"}},
        },
    )
    ranges = DistinctRanges(kit.build_task().ranges)
    result = engine.tune(kit.build_task(ranges=ranges, judge=lambda model: 0.9), options)
    assert result.warnings == ()
    assert kit.integer_operators(result.model) == set(kit.WEIGHTED) - {"expand"}
    assert set(result.trial.fp32_operators) == {"expand", "residual"}
    assert {one.reason for one in result.fp32_operators} == {"the configuration keeps it in fp32"}
    assert ranges.rule_of(kit, result.model, "s6") == "kl"
    assert ranges.rule_of(kit, result.model, "p") in EXTREME_RULES
    weights = kit.producer_of(result.model, kit.node_named(result.model, "stem").input[1])
    assert kit.initializer(result.model, weights.input[1]).size == 1
    assert not result.trial.per_channel
    assert "kl" in result.trial.activation_algorithm.split("+")


def test_restrictions_without_effect_are_reported(kit: Any) -> None:
    options = kit.build_options(
        optype_wise={"Softmax": FP32},
        op_wise={"steam": FP32, "stem": {"activation": {"algorithm": ["kll"]}, "weight": {"bits": [4]}}},
    )
    result = engine.tune(kit.build_task(), options)
    assert len(result.warnings) == 4
    assert "optype_wise: 'Softmax' matches no operator" in result.warnings[0]
    assert "op_wise: 'steam' matches no operator" in result.warnings[1]
    assert "op_wise.stem.activation.algorithm: kll" in result.warnings[2]
    assert "there is no such setting" in result.warnings[3]
    assert all(len(line.splitlines()) == 1 for line in result.warnings)


def test_names_that_are_no_regular_expressions_can_be_named(kit: Any) -> None:
    prepared = kit.make_prepared()
    kit.node_named(prepared, "expand").name = "block[0]/expand(+"
    result = engine.tune(kit.build_task(prepared), kit.build_options(op_wise={"block[0]/expand(+": FP32}))
    assert result.trial.fp32_operators == ("block[0]/expand(+",)
    assert result.warnings == ()


@pytest.mark.parametrize("name", engine.SUPPORTED_STRATEGIES)
def test_same_seed_gives_the_same_bytes_whatever_the_threads(kit: Any, name: str) -> None:
    def run(threads: int) -> tuple[bytes, list[Any]]:
        task = kit.build_task(threads=threads)
        judge = kit.RealJudge(task.model)
        task = kit.build_task(
            threads=threads,
            judge=lambda model: float(
                np.mean(outputs(make_session(model, threads=threads), judge.images).argmax(1) == judge.labels)
            ),
        )
        found = engine.tune(task, kit.build_options(0.0, strategy=name, max_trials=3, timeout_s=100.0))
        trials = [(t.accuracy, t.rules, t.fp32_operators) for t in found.trials]
        return found.model.SerializeToString(deterministic=True), trials

    first = run(1)
    np.random.seed(99)
    assert run(1) == first  # a second run in one process
    assert run(2) == first


def test_seeds_differ(kit: Any) -> None:
    """The seed reaches the strategies that choose at random."""

    def rules(seed: int) -> list[Any]:
        options = kit.build_options(strategy="bayesian", max_trials=2, timeout_s=100.0, seed=seed)
        return [trial.rules for trial in engine.tune(kit.build_task(), options).trials]

    assert rules(1) == rules(1)
    assert len({str(rules(seed)) for seed in (1, 2, 2**40 + 3)}) > 1


def test_inference_errors_surface_in_one_line(kit: Any) -> None:
    def judge(model: onnx.ModelProto) -> float:
        if not kit.integer_operators(model):
            return 0.9
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        broken.graph.node[0].op_type = "NoSuchOperator"
        make_session(broken, threads=1)
        raise AssertionError("not reached")

    with pytest.raises(EngineError, match="NoSuchOperator") as caught:
        engine.tune(kit.build_task(judge=judge), kit.build_options())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("accuracy", [float("nan"), -0.1, 1.1, 71.9])
def test_what_is_no_accuracy_is_refused(kit: Any, accuracy: float) -> None:
    with pytest.raises(EngineError, match="not a fraction of the images"):
        engine.tune(kit.build_task(judge=lambda model: accuracy), kit.build_options())


def test_fp32_that_is_never_right_is_refused(kit: Any) -> None:
    with pytest.raises(InputError, match=r"right on no evaluation image.*--label_path") as caught:
        engine.tune(kit.build_task(judge=lambda model: 0.0), kit.build_options())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("limits", [{"max_trials": 0}, {"timeout_s": -1.0}, {"timeout_s": float("nan")}])
def test_limits_without_sense_are_refused(kit: Any, limits: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"give (1|0) or more"):
        kit.build_options(**limits)


def test_workspace_that_cannot_be_written_is_named(kit: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--workspace .*file/inside: cannot write there"):
        engine.tune(kit.build_task(), kit.build_options(workspace=tmp_path / "file" / "inside"))


def test_full_disk_is_named(kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    task = kit.build_task()
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match="No space left on device"):
        engine.tune(task, kit.build_options(workspace=tmp_path / "new"))
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(InputError, match=r"No space left on device.*set TMPDIR"):
        engine.tune(task, kit.build_options())


def test_workspace_is_made_and_keeps_no_pickles(kit: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    engine.tune(kit.build_task(), kit.build_options(workspace=folder))
    assert {path.suffix for path in folder.iterdir()} == {".onnx"}


def test_a_strategy_without_proposals_is_an_error(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("neural_compressor")
    monkeypatch.setattr(strategy_module.SensitivityTuneStrategy, "next_tune_cfg", lambda self: iter(()))
    with pytest.raises(EngineError, match="strategy sensitivity proposed none"):
        engine.tune(kit.build_task(), kit.build_options())


def test_a_search_within_a_search(kit: Any) -> None:
    """What a nested run puts back is what the outer run needs."""
    inner: list[bytes] = []

    def judge(model: onnx.ModelProto) -> float:
        if not inner:
            inner.append(engine.tune(kit.build_task(), kit.build_options()).model.SerializeToString())
        return 0.9

    outer = engine.tune(kit.build_task(judge=judge), kit.build_options())
    assert outer.model.SerializeToString() == inner[0]
    assert not hasattr(onnx, "mapping")


def test_listener_hears_of_every_trial(kit: Any) -> None:
    harm = kit.Harm({"stem": 0.5})
    heard: list[engine.Trial] = []
    task = kit.build_task(judge=harm, divergence=harm.divergence)
    result = engine.tune(task, kit.build_options(0.01), heard.append)
    assert tuple(heard) == result.trials
    assert result.trial == result.trials[-1]
    assert [trial.decline for trial in heard[:2]] == pytest.approx([5 / 9, 5 / 9])


def test_workspace_keeps_the_model_of_every_trial(kit: Any, tmp_path: Path) -> None:
    result = engine.tune(kit.build_task(), kit.build_options(workspace=tmp_path))
    kept = sorted(path.name for path in tmp_path.glob("trial-*.onnx"))
    assert kept == [f"trial-{trial.number:03d}.onnx" for trial in result.trials]
    assert onnx.load(tmp_path / kept[result.trial.number - 1]).graph == result.model.graph
