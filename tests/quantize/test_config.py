from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from quantize.config import SHIPPED_FOLDER, Config, find_config, load_config
from quantize.config.schema import Settings
from quantize.config.tuning import STRATEGIES
from quantize.errors import InputError
from tests.quantize.config_samples import (
    ACCURACY,
    CALIBRATION,
    DATA,
    nested,
    refused,
)


def test_defaults_need_nothing() -> None:
    config = Config.from_mapping({})
    assert (config.formats, config.primary_format) == (("QOperator", "QDQ"), "QOperator")
    assert (config.criterion.kind, config.criterion.tolerance, config.criterion.metric) == (
        "relative",
        0.01,
        "top1",
    )
    assert (config.calibration_count, config.evaluation_count, config.seed) == (100, None, 9527)
    assert config.tuning.strategy.name == "sensitivity"
    assert (config.tuning.exit_policy.timeout, config.tuning.exit_policy.max_trials) == (0.0, 100)
    assert config.thread_count >= 1
    assert config.warnings == config.unused_fields == config.placeholder_fields == ()
    assert config.source is None


def test_every_field_is_described() -> None:
    def check(model: Any) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation)

    check(Settings)


def test_nothing_can_be_changed() -> None:
    config = load_config(DATA / "zoo_qdq.yaml")
    with pytest.raises(AttributeError):
        config.settings = None  # type: ignore[misc, assignment]  # the point of the test
    with pytest.raises(ValidationError):
        config.tuning.random_seed = 1
    with pytest.raises(TypeError):
        config.quantization.op_wise["Conv_0"]["weight"]["dtype"] = ["int8"]
    with pytest.raises(TypeError):
        Config.from_mapping({}).quantization.op_wise["new"] = {}  # type: ignore[index]  # the point of the test


# The files of 1.x.


def test_zoo_file_is_accepted_as_it_is() -> None:
    config = load_config(DATA / "zoo_qlinearops.yaml")
    assert config.primary_format == "QOperator"
    assert config.criterion.tolerance == 0.02
    assert config.unused_fields == config.warnings == ()
    assert len(config.placeholder_fields) == 6
    assert config.threads_per_instance == 4


def test_template_fields_are_accepted_and_named_once() -> None:
    config = load_config(DATA / "zoo_qdq.yaml")
    assert config.formats == ("QDQ", "QOperator")
    assert str(config.criterion) == "absolute decline of top-5 at most 2 percentage points"
    assert config.calibration_count == 100
    assert set(config.unused_fields) == {
        "model.inputs",
        "model.outputs",
        "quantization.recipes.first_conv_or_matmul_quantization",
        "quantization.recipes.ffn_matmul_quantization",
        "quantization.model_wise.weight.scheme",
        "evaluation.accuracy.configs.kmp_blocktime",
        "evaluation.accuracy.dataloader.last_batch",
        "evaluation.performance.configs.inter_num_of_threads",
        "evaluation.performance.dataloader.dataset.dummy",
        "tuning.strategy.sigopt_project_id",
        "tuning.exit_policy.performance_only",
        "tuning.tensorboard",
        "tuning.workspace.resume",
    }
    about_unused = [warning for warning in config.warnings if "without effect" in warning]
    assert len(about_unused) == 1
    assert all(name in about_unused[0] for name in config.unused_fields)
    assert any("sampling_size" in warning for warning in config.warnings)
    assert config.tuning.workspace.path == DATA / "saved"


def test_values_that_ask_for_what_happens_anyway_are_not_named() -> None:
    config = Config.from_mapping(
        {
            "device": "cpu",
            "version": "1.0",
            "tuning": {"tensorboard": False, "objective": "performance", "diagnosis": {}},
            "quantization": {
                "model_wise": {"weight": {"scheme": ["sym"]}},
                "recipes": {"weight_correction": False},
            },
            "pruning": None,
        }
    )
    assert config.unused_fields == ()


def test_one_is_not_true() -> None:
    assert Config.from_mapping(nested("quantization.recipes.pre_post_process_quantization", 1)).unused_fields


@pytest.mark.parametrize("name", ["pruning", "distillation", "mixed_precision", "nas", "train"])
def test_other_tasks_of_the_schema_are_named_as_a_whole(name: str) -> None:
    assert Config.from_mapping({name: {"approach": {"x": 1}}}).unused_fields == (name,)


def test_shipped_configurations() -> None:
    names = sorted(path.name for path in SHIPPED_FOLDER.glob("*.yaml"))
    assert names == ["demo_digits.yaml", "mobilenetv2.yaml", "mobilenetv2_zoo2021.yaml"]
    for name in names:
        config = load_config(name)
        assert config.warnings == config.unused_fields == ()
        assert config.placeholder_fields
        assert config.calibration_count == 100


def test_yesterdays_and_todays_preprocessing_differ_in_the_resize() -> None:
    def steps(name: str) -> list[str]:
        return list(
            yaml.safe_load(find_config(name).read_text())["evaluation"]["accuracy"]["dataloader"]["transform"]
        )

    assert steps("mobilenetv2.yaml")[0] == "ResizeShortest"
    assert steps("mobilenetv2_zoo2021.yaml")[:3] == ["Rescale", "Resize", "CenterCrop"]


# What is refused.


@pytest.mark.parametrize(
    ("dotted", "value", "expected"),
    [
        ("modle.name", "a", "modle: unknown field; did you mean 'model'?"),
        ("tuning.exit_polcy", {}, "tuning.exit_polcy: unknown field; did you mean 'exit_policy'?"),
        ("model.zzzz", 1, "model.zzzz: unknown field; known are name, framework"),
        ("model", "mobilenet", "model: expected fields (name, framework, inputs, outputs), got 'mobilenet'"),
        ("model.name", 3, "model.name: expected text, got 3"),
        ("model.framework", "onnxrt_integerops", "dynamic quantization"),
        ("model.framework", "onnxrt_qdp", "did you mean 'onnxrt_qdq'?"),
        ("model.framework", "tensorflow", "'tensorflow' is not supported"),
        ("quantization.approach", "post_training_dynamic_quant", "use post_training_static_quant"),
        ("quantization.approach", "post_training_static_quantt", "did you mean"),
        ("quantization.quant_format", "qdq", "expected 'QOperator', 'QDQ' or 'both', got 'qdq'"),
        ("quantization.calibration.sampling_size", 0, "expected a number of images from 1, got 0"),
        ("quantization.calibration.sampling_size", "many", "got 'many'"),
        ("quantization.calibration.sampling_size", True, "got True"),
        ("quantization.calibration.sampling_size", [], "got []"),
        ("quantization.calibration.allow_overlap", "yes", "expected true or false, got 'yes'"),
        (f"{CALIBRATION}.batch_size", 0, "expected at least 1, got 0"),
        (f"{CALIBRATION}.batch_size", True, "expected a whole number, got True"),
        (f"{CALIBRATION}.batch_size", 1.5, "expected a whole number, got 1.5"),
        (f"{CALIBRATION}.dataset.ImagenetRw", {}, "did you mean 'ImagenetRaw'?"),
        (f"{CALIBRATION}.dataset.COCORecord", {"root": "a"}, "use ImagenetRaw (image list) or ImageFolder"),
        (f"{CALIBRATION}.dataset.ImagenetRaw", {}, "ImagenetRaw.data_path: is missing; add it"),
        (f"{CALIBRATION}.dataset.ImagenetRaw.data_path", 5, "expected a path, got 5"),
        (f"{CALIBRATION}.dataset.ImagenetRaw.data_path", " ", "expected a path, got ' '"),
        (f"{CALIBRATION}.dataset.ImageFolder", {}, "root is missing"),
        (f"{CALIBRATION}.dataset.ImageFolder", {"root": "a", "data_path": "b"}, "both name the folder"),
        (f"{CALIBRATION}.dataset", {}, "no dataset is given"),
        (f"{CALIBRATION}.transform", [], "expected transforms in the order they apply"),
        (f"{CALIBRATION}.transform", {}, "expected transforms in the order they apply"),
        (f"{CALIBRATION}.transform.Rezise", {"size": 4}, "transform 'Rezise'"),
        (f"{CALIBRATION}.last_batch", "drop", "expected 'rollover' or 'discard', got 'drop'"),
        ("quantization.op_wise.Conv", "fp32", "Conv: expected fields (activation, weight), got 'fp32'"),
        ("quantization.op_wise.Conv.activatoin", {}, "did you mean 'activation'?"),
        ("quantization.op_wise.Conv.weight", "fp32", "expected fields such as `dtype: ['fp32']`"),
        ("quantization.op_wise.Conv(", {}, "not a valid pattern"),
        ("quantization.op_wise", [1], "expected fields, got [1]"),
        ("evaluation.accuracy.metric.topk", 3, "expected 1 or 5, got 3"),
        ("evaluation.accuracy.metric.topk", True, "expected 1 or 5, got True"),
        ("evaluation.accuracy.metric.mAP", {}, "quantizes image classifiers: use topk: 1 or topk: 5"),
        ("evaluation.accuracy.metric.top", 1, "did you mean 'topk'?"),
        ("evaluation.accuracy.metric", {"topk": 5, "Accuracy": {}}, "contradict each other"),
        ("evaluation.accuracy", {"iteration": 4, "sampling_size": 4}, "both limit the images; keep one"),
        ("evaluation.accuracy.iteration", 0, "leaves no image"),
        ("evaluation.accuracy.iteration", -2, "expected at least -1, got -2"),
        ("evaluation.performance.iteration", 0, "0 runs measure nothing"),
        ("evaluation.performance.warmup", -1, "expected at least 0, got -1"),
        ("evaluation.performance.configs.num_of_instance", "x" * 200, "…"),
        ("tuning.strategy.name", "mse", "use mse_v2"),
        ("tuning.strategy.name", "bayesain", "did you mean 'bayesian'?"),
        ("tuning.strategy.name", 5, "5 is no strategy"),
        (
            "tuning.accuracy_criterion",
            {"relative": 0.01, "absolute": 0.02},
            "relative (0.01) and absolute (0.02)",
        ),
        (
            "tuning.accuracy_criterion",
            {"higher_is_better": False},
            "contradicts evaluation.accuracy.metric.topk",
        ),
        ("tuning.accuracy_criterion.relative", 1, 'for 1 per cent write 0.01 or "1%"'),
        ("tuning.accuracy_criterion.relative", -0.01, "expected a fraction"),
        ("tuning.accuracy_criterion.relative", float("nan"), "expected a fraction"),
        ("tuning.accuracy_criterion.relative", float("inf"), "expected a fraction"),
        ("tuning.accuracy_criterion.relative", "100%", "expected a fraction"),
        ("tuning.accuracy_criterion.relative", "little", "got 'little'"),
        ("tuning.accuracy_criterion.relative", True, "got True"),
        ("tuning.exit_policy.timeout", -1, "expected at least 0, got -1"),
        ("tuning.exit_policy.timeout", float("inf"), "expected a finite number, got inf"),
        ("tuning.exit_policy.timeout", "soon", "expected a number, got 'soon'"),
        ("tuning.exit_policy.max_trials", 0, "expected at least 1, got 0"),
        ("tuning.random_seed", -1, "expected at least 0, got -1"),
        ("tuning.random_seed", 2**32, "expected less than 4294967296"),
        ("threads", 0, "threads: expected at least 1, got 0"),
        ("device", "gpu", "use cpu"),
        ("version", 2.0, "another schema"),
    ],
)
def test_refused_with_field_and_cure(dotted: str, value: Any, expected: str) -> None:
    message = refused(nested(dotted, value))
    assert expected in message
    assert dotted.split(".", maxsplit=1)[0] in message


@pytest.mark.parametrize(
    "name", ["hawq_v2", "tpe", "random", "sigopt", "auto", "mse", "auto_mixed_precision"]
)
def test_strategies_that_can_not_work_are_refused_with_a_cure(name: str) -> None:
    message = refused(nested("tuning.strategy.name", name))
    assert f"{name!r} is not offered" in message
    assert any(f"use {other}" in message for other in STRATEGIES) and "\n" not in message


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_that_work_are_accepted(name: str) -> None:
    assert Config.from_mapping(nested("tuning.strategy.name", name)).tuning.strategy.name == name


def test_several_problems_are_counted() -> None:
    assert "(and 1 more problem)" in refused({"tuning": {"random_seed": -1}, "threads": 0})
    both = {"tuning": {"random_seed": -1}, "threads": 0, "device": "gpu"}
    assert "(and 2 more problems)" in refused(both)


def test_two_datasets_contradict() -> None:
    both = {"ImagenetRaw": {"data_path": "a"}, "ImageFolder": {"root": "b"}}
    assert "ImagenetRaw and ImageFolder are both given" in refused(nested(f"{ACCURACY}.dataset", both))


def test_line_of_the_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  name: a\ntuning:\n  random_seed: -1\n")
    with pytest.raises(InputError, match=r"^mine\.yaml:4: tuning\.random_seed: expected at least 0, got -1$"):
        load_config(path)
    path.write_text("model:\n  name: a\ntuning:\n  random_sead: 1\n")
    with pytest.raises(InputError, match=r"^mine\.yaml:4: tuning\.random_sead: unknown field; did you mean"):
        load_config(path)
    path.write_text(
        "evaluation:\n  accuracy:\n    dataloader:\n      transform:\n        Rescale:\n        Crop: {}\n"
    )
    with pytest.raises(
        InputError, match=r"^mine\.yaml:6: evaluation\.accuracy\.dataloader\.transform\.Crop: .*is not known"
    ):
        load_config(path)


def test_order_of_transforms_is_checked_when_read() -> None:
    wrong = {"Transpose": {"perm": [2, 0, 1]}, "CenterCrop": {"size": 4}}
    assert f"{ACCURACY}.transform" in refused(nested(f"{ACCURACY}.transform", wrong))


@pytest.mark.parametrize("choice", [True, 3, "int8", ["int8"]])
def test_model_wise_choices_are_fields(choice: object) -> None:
    with pytest.raises(InputError, match=r"model_wise.*activation: expected fields such as"):
        Config.from_mapping({"quantization": {"model_wise": {"activation": choice}}})
