"""The commands `evaluate` and `benchmark`: which flags they take, and what these change."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantize.cli import main
from quantize.cli.flags import FLAGS
from tests.quantize.cli_stand_ins import MEASURE, Recorder


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["evaluate"], "evaluate"),
        (["benchmark"], "benchmark"),
        (["benchmark", "--mode=performance"], "benchmark"),
        (["benchmark", "--mode=accuracy"], "evaluate"),
        (["run_benchmark", "--mode", "accuracy", "--batch_size=4"], "evaluate"),
    ],
)
def test_what_is_measured(words: list[str], called: str, recorder: Recorder, files: Path) -> None:
    assert main([*words, *MEASURE]) == 0
    assert recorder.calls[0][0] == called
    assert recorder.calls[0][2] == {
        "input_model": Path("a model.onnx"),
        "verbosity": "normal",
        "as_json": False,
    }


def test_flags_of_the_benchmark(recorder: Recorder, files: Path) -> None:
    flags = ["--warmup=1", "--iteration=2", "--cores_per_instance=3", "--num_of_instance=4", "--batch_size=5"]
    assert main(["benchmark", *MEASURE, *flags]) == 0
    performance = recorder.config.evaluation.performance
    assert (performance.warmup, performance.iteration, performance.dataloader.batch_size) == (1, 2, 5)
    assert (recorder.config.threads_per_instance, performance.configs.num_of_instance) == (3, 4)


def test_threads_of_the_benchmark_win_over_the_configuration(recorder: Recorder, files: Path) -> None:
    (files / "c.yaml").write_text(
        "evaluation: {performance: {configs: {cores_per_instance: 4, intra_num_of_threads: 6}}}"
    )
    assert main(["benchmark", *MEASURE, "--threads=2"]) == 0
    assert recorder.config.threads_per_instance == recorder.config.thread_count == 2
    assert main(["benchmark", *MEASURE, "--cores_per_instance=3"]) == 0
    assert recorder.config.threads_per_instance == 3


IMAGE_FLAGS = ["--calibration_samples=12", "--eval_samples=34", "--seed=56", "--allow_overlap"]


@pytest.mark.parametrize("words", [["evaluate"], ["benchmark", "--mode=accuracy"]])
def test_flags_that_choose_what_is_evaluated(words: list[str], recorder: Recorder, files: Path) -> None:
    assert main([*words, *MEASURE, *IMAGE_FLAGS, "--batch_size=9", "--threads=3"]) == 0
    config = recorder.config
    assert (config.calibration_count, config.evaluation_count, config.seed) == (12, 34, 56)
    assert config.quantization.calibration.allow_overlap
    assert config.evaluation.accuracy.dataloader.batch_size == 9
    assert config.evaluation.performance.dataloader.batch_size == 1
    assert config.thread_count == 3


def test_batch_size_of_the_benchmark_is_that_of_its_mode(recorder: Recorder, files: Path) -> None:
    assert main(["benchmark", *MEASURE, "--mode=performance", "--batch_size=9"]) == 0
    assert recorder.config.evaluation.performance.dataloader.batch_size == 9
    assert recorder.config.evaluation.accuracy.dataloader.batch_size == 1


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_measuring_offers_only_what_it_acts_on(command: str) -> None:
    names = {flag.name for flag in FLAGS if command in flag.commands}
    both = {"input_model", "config", "dataset_location", "label_path", "batch_size", "calibration_samples"}
    both |= {"selection_samples", "eval_samples", "seed", "allow_overlap", "threads", "json"}
    both |= {"quiet", "verbose", "on_bad_image", "follow_links"}
    both |= {"eval_samples", "seed", "allow_overlap", "threads", "quiet", "verbose"}
    both |= {"cache_dir", "cache_size", "cache_by_content", "no_cache"}
    speed = {"mode", "warmup", "iteration", "cores_per_instance", "num_of_instance"}
    assert names == (both | speed if command == "benchmark" else both)
