from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from quantize.config import SHIPPED_FOLDER, Config, find_config, load_config
from quantize.config.suggest import did_you_mean
from quantize.errors import InputError
from tests.quantize.config_samples import (
    ACCURACY,
    CALIBRATION,
    DATA,
    PERFORMANCE,
    TRANSFORM,
    nested,
    with_images,
)

# Values.


@pytest.mark.parametrize("written", [0.01, "0.01", "1%", "1 %", " 1.0% ", "1e-2", "+1%"])
def test_spellings_of_one_per_cent(written: object) -> None:
    assert (
        Config.from_mapping(nested("tuning.accuracy_criterion.absolute", written)).criterion.tolerance == 0.01
    )


@pytest.mark.parametrize(
    ("written", "first"), [(50, 50), ("50", 50), ("50, 100", 50), ([50, 100], 50), ("50 60", 50)]
)
def test_spellings_of_the_sampling_size(written: object, first: int) -> None:
    assert (
        Config.from_mapping(nested("quantization.calibration.sampling_size", written)).calibration_count
        == first
    )


def test_zero_is_a_tolerance_and_not_a_missing_one() -> None:
    assert Config.from_mapping(nested("tuning.accuracy_criterion.relative", 0)).criterion.tolerance == 0.0


def test_other_name_of_the_qdq_framework() -> None:
    assert Config.from_mapping(nested("model.framework", "onnxrt_qdqops")).primary_format == "QDQ"


def test_accuracy_is_another_name_of_top1() -> None:
    assert Config.from_mapping(nested("evaluation.accuracy.metric.Accuracy", {})).criterion.metric == "top1"


def test_batches_of_1x_limit_the_images() -> None:
    accuracy = {"iteration": 3, "dataloader": {"batch_size": 8}}
    assert Config.from_mapping(nested("evaluation.accuracy", accuracy)).evaluation_count == 24


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({"cores_per_instance": 3}, 3),
        ({"cores_per_instance": 3, "intra_num_of_threads": 2}, 2),
        ({"num_of_instance": 2}, 4),
        ({"num_of_instance": 100}, 1),
        ({}, 8),
    ],
)
def test_threads_of_an_instance(layout: dict[str, int], expected: int) -> None:
    config = Config.from_mapping({"threads": 8, **nested("evaluation.performance.configs", layout)})
    assert config.threads_per_instance == expected


def test_operators_kept_in_fp32() -> None:
    config = Config.from_mapping(
        {
            "quantization": {
                "op_wise": {
                    "Conv_0": {"activation": {"dtype": ["fp32"]}},
                    "Gather_*": {"weight": {"dtype": "fp32"}},
                    "head/.*": {"weight": {"dtype": ["fp32"]}, "activation": None},
                    "Conv_9": {"weight": {"dtype": ["int8", "fp32"]}},
                },
                "optype_wise": {"Add": {"activation": {"dtype": ["fp32"]}}},
            }
        }
    )
    assert config.fp32_operators == ("Conv_0", "Gather_*", "head/.*")
    assert config.fp32_operator_types == ("Add",)
    kept = [
        name
        for name in ("Conv_0", "Conv_01", "Gather_12", "head/fc", "Conv_9")
        if config.keeps_in_fp32(name, "Conv")
    ]
    assert kept == ["Conv_0", "Gather_12", "head/fc"]
    assert config.keeps_in_fp32("anything", "Add")
    assert config.unused_fields == ()


def test_restrictions_apply_from_the_general_to_the_particular() -> None:
    config = Config.from_mapping(
        {
            "quantization": {
                "model_wise": {"activation": {"algorithm": ["minmax", "kl"]}},
                "optype_wise": {"Conv": {"weight": {"granularity": ["per_tensor"]}}},
                "op_wise": {
                    "Conv_1": {"activation": {"algorithm": "mse", "scheme": ["sym"]}},
                    "Gone_*": {"activation": {"dtype": ["fp32"]}},
                    "Conv_2": {"activation": {"dtype": ["fp32"]}},
                },
            }
        }
    )
    assert config.restrictions("Conv_1", "Conv") == {
        "activation": {"algorithm": ["mse"]},
        "weight": {"granularity": ["per_tensor"]},
    }
    assert config.restrictions("Add_1", "Add") == {"activation": {"algorithm": ["minmax", "kl"]}}
    assert config.restrictions("Conv_2", "Conv")["activation"] == {"dtype": ["fp32"]}
    assert Config.from_mapping({}).restrictions("Conv_1", "Conv") == {}
    assert config.unused_fields == ("quantization.op_wise.Conv_1.activation.scheme",)
    assert config.unmatched_patterns([("Conv_1", "Conv"), ("Conv_2", "Conv")]) == (
        "quantization.op_wise.Gone_*",
    )


# Warnings.


def test_transforms_that_differ_are_allowed_and_named() -> None:
    other = {"Transpose": {"perm": [2, 0, 1]}, "Rescale": {}}
    for dotted in (CALIBRATION, PERFORMANCE):
        warnings = Config.from_mapping(with_images()).with_overrides({f"{dotted}.transform": other}).warnings
        assert [dotted in warning for warning in warnings] == [True]
    assert (
        Config.from_mapping(with_images()).with_overrides({f"{CALIBRATION}.transform": TRANSFORM}).warnings
        == ()
    )


def test_threads_and_cores_that_differ_are_named() -> None:
    layout = {"cores_per_instance": 4, "intra_num_of_threads": 2}
    assert (
        "2 threads are used"
        in Config.from_mapping(nested("evaluation.performance.configs", layout)).warnings[0]
    )


# Names.


def test_suggestions() -> None:
    assert (
        did_you_mean("Bilinearimagnet", ["Resize", "BilinearImagenet"]) == "did you mean 'BilinearImagenet'?"
    )
    assert did_you_mean("q", ["alpha", "beta"]) == "known are alpha, beta"
    assert did_you_mean("q", []) == ""


# Finding files.


def test_shipped_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = SHIPPED_FOLDER / "mobilenetv2.yaml"
    assert find_config("mobilenetv2.yaml") == find_config("mobilenetv2") == shipped
    assert find_config("configs/mobilenetv2.yaml") == shipped  # the README's command, from anywhere
    (tmp_path / "mobilenetv2.yaml").write_text("{}")
    assert find_config("mobilenetv2.yaml") == Path("mobilenetv2.yaml")


@pytest.mark.parametrize("name", ["mobilnetv2.yaml", "nowhere/mobilenetv3.yaml", "/nowhere/mobilenetv2.yml"])
def test_nearest_shipped_file_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"did you mean 'mobilenetv2\.yaml'"):
        find_config(name)


def test_no_name_at_all() -> None:
    with pytest.raises(InputError, match="no such configuration"):
        find_config("")


# Text and hashes.


def test_full_text_is_json() -> None:
    loaded = load_config(DATA / "zoo_qdq.yaml")
    assert json.loads(json.dumps(loaded.to_dict()))["evaluation"]["accuracy"]["metric"]["topk"] == 5


def test_hash_is_of_what_determines_the_result() -> None:
    base = Config.from_mapping(with_images())
    same: list[dict[str, object]] = [
        {"threads": 7},
        {"model.name": "other"},
        {"tuning.workspace.path": "elsewhere"},
        {"evaluation.performance.warmup": 99},
        {"tuning.random_seed": 9527},
        {f"{ACCURACY}.dataset.ImageFolder.root": "/data"},
        {f"{CALIBRATION}.transform": {"Rescale": None, "Transpose": {"perm": [2, 0, 1]}}},
    ]
    assert {base.with_overrides(change).config_hash() for change in same} == {base.config_hash()}
    other: list[dict[str, object]] = [
        {"tuning.random_seed": 1},
        {"tuning.strategy.name": "basic"},
        {"tuning.accuracy_criterion.relative": 0.02},
        {"evaluation.accuracy.metric.topk": 5},
        {"quantization.calibration.sampling_size": 99},
        {"quantization.quant_format": "QDQ"},
        {"quantization.target": "vnni"},
        {f"{ACCURACY}.transform": {"Transpose": {"perm": [2, 0, 1]}, "Rescale": {}}},
        {f"{ACCURACY}.dataset.ImageFolder.exif_orientation": False},
        {"quantization.optype_wise": {"Add": {"activation": {"dtype": ["fp32"]}}}},
    ]
    hashes = {base.with_overrides(change).config_hash() for change in other}
    assert len(hashes) == len(other)
    assert base.config_hash() not in hashes


def test_canonical_text_names_no_machine(tmp_path: Path) -> None:
    text = Config.from_mapping(with_images(str(tmp_path), threads=3)).to_canonical_json()
    assert str(tmp_path) not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert Config.from_mapping({}).thread_count == 1


_Change = Callable[[Config], Config]


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.with_overrides({"threads": 2}),
        lambda config: config.with_overrides({"tuning.accuracy_criterion": {"absolute": 0.1}}),
        lambda config: config.with_data(Path("here")),
    ],
)
def test_changes_leave_the_original_alone(change: _Change) -> None:
    config = Config.from_mapping(with_images())
    before = config.to_dict()
    assert change(config).to_dict() != before
    assert config.to_dict() == before
