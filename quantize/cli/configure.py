"""Parsed flags → configuration."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.flags import ACCURACY, BENCHMARK, EVALUATE, FLAGS, TUNE
from quantize.errors import InputError

if TYPE_CHECKING:
    from quantize.config import Config

__all__ = ["configured", "demo_overrides"]

_CRITERION = "tuning.accuracy_criterion"
_ACCURACY = "evaluation.accuracy"
_LAYOUT = "evaluation.performance.configs"

# Which dataloaders a command runs, and so whose batch size its flag sets.
_BATCHED = {
    TUNE: ("quantization.calibration", _ACCURACY),
    EVALUATE: (_ACCURACY,),
    BENCHMARK: ("evaluation.performance",),
}


def configured(arguments: argparse.Namespace) -> Config:
    """The configuration file with the flags applied.

    Raises:
        InputError: the file or a flag's value is wrong.
    """
    from quantize.config import load_config

    loaded = load_config(arguments.config)
    return _with_flags(loaded.with_data(arguments.dataset_location, arguments.label_path), arguments)


def demo_overrides(arguments: argparse.Namespace) -> dict[str, object]:
    """What the flags change in the configuration of the bundled example: dotted field → value.

    Raises:
        InputError: a flag's value is wrong.
    """
    from quantize.config import SHIPPED_FOLDER, load_config

    shipped = load_config(SHIPPED_FOLDER / "demo_digits.yaml")
    _with_flags(shipped, arguments)
    return _overrides(shipped, arguments)[0]


def _with_flags(config: Config, arguments: argparse.Namespace) -> Config:
    changes, flags = _overrides(config, arguments)
    return config.with_overrides(changes, flags=flags) if changes else config


def _overrides(config: Config, arguments: argparse.Namespace) -> tuple[dict[str, object], dict[str, str]]:
    """Dotted field → value, and dotted field → the flag that says so."""
    changes: dict[str, object] = {}
    flags: dict[str, str] = {}
    given = {
        name: value for name, value in vars(arguments).items() if value is not None and value is not False
    }
    for flag in FLAGS:
        if flag.field is not None and flag.name in given:
            changes[flag.field] = given[flag.name]
            flags[flag.field] = f"--{flag.name}"
    for name, fields in _fields_of_several(config, given).items():
        changes |= fields
        flags |= dict.fromkeys(fields, f"--{name}")
    return changes, flags


def _fields_of_several(config: Config, given: dict[str, object]) -> dict[str, dict[str, object]]:
    """Flags that set another field than one of their own → what they set."""
    # The benchmark of accuracy is `evaluate` by another name.
    command = EVALUATE if given.get("mode") == ACCURACY else str(given["command"])
    several: dict[str, dict[str, object]] = {}
    if "batch_size" in given:
        sections = _BATCHED[command]
        several["batch_size"] = {f"{part}.dataloader.batch_size": given["batch_size"] for part in sections}
    if "metric" in given:
        several["metric"] = {f"{_ACCURACY}.metric": {"topk": 5 if given["metric"] == "top5" else 1}}
    if "eval_samples" in given:  # 1.x limits the same images by batches
        several["eval_samples"] = {f"{_ACCURACY}.iteration": None}
    if "no_cache" in given:
        for name in ("cache_dir", "cache_size", "cache_by_content", "resume"):
            if name in given:
                raise InputError(f"--no_cache and --{name} contradict each other; keep one")
        several["no_cache"] = {"cache.enabled": False}
    if command == BENCHMARK and "threads" in given:
        if "cores_per_instance" in given:
            raise InputError("--threads and --cores_per_instance set the same thing here; keep one")
        several["threads"] = {
            f"{_LAYOUT}.intra_num_of_threads": None,
            f"{_LAYOUT}.cores_per_instance": given["threads"],
        }
    elif "cores_per_instance" in given:
        several["cores_per_instance"] = {f"{_LAYOUT}.intra_num_of_threads": None}
    several |= _criterion(config, given)
    return several


def _criterion(config: Config, given: dict[str, object]) -> dict[str, dict[str, object]]:
    """The kind and the number of the criterion; what is not given stays as configured."""
    name = "tolerable_loss" if "tolerable_loss" in given else "criterion"
    if name not in given:
        return {}
    kind = str(given.get("criterion", config.criterion.kind))
    return {name: {_CRITERION: {kind: given.get("tolerable_loss", config.criterion.tolerance)}}}
