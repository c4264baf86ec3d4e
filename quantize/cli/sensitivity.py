"""The command line of `sensitivity`, which takes its model as a positional argument."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.configure import configured
from quantize.cli.flags import FLAGS, Flag
from quantize.cli.values import path, whole_number
from quantize.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "OWN_FLAGS", "SUMMARY", "USAGE", "add_model", "flags", "run"]

NAME = "sensitivity"
SUMMARY = "measure what quantizing each operator costs"

USAGE = "python -m quantize sensitivity MODEL --config=FILE [flags]"

DESCRIPTION = """Quantizes every operator of an fp32 model alone, leaves every one in fp32 alone, and measures
what that does to the KL divergence from fp32, to the agreement with it, and to top-1, on calibration images
(accuracy is judged on others). The operators are ranked by what leaving them in fp32 saves; `tune
--sensitivity=FILE` takes this order for its fallbacks.

What is measured is written after every operator: started again, an interrupted run goes on where it was."""

EPILOG = """examples:
  python -m quantize sensitivity mobilenetv2-12.onnx --config=mobilenetv2.yaml --dataset_location=imagenet/val
  bash run_tuning.sh --input_model=mobilenetv2-12.onnx --config=mobilenetv2.yaml --output_model=out \\
      --dataset_location=imagenet/val --sensitivity=mobilenetv2-12-sensitivity.json

exit codes:
  0  done
  2  wrong input or usage; one line on stderr says which and what to do
  3  the runtime failed (--verbose shows where)
  130  interrupted; start again to go on"""

_DEFAULT_SAMPLES = 64

# The flags that this command shares with the others, by name.
_SHARED = frozenset(
    {"config", "dataset_location", "label_path", "calibration_samples", "seed", "threads", "quiet", "verbose"}
)

_GROUP = "measurement"
OWN_FLAGS = (
    Flag(
        name="output",
        group=_GROUP,
        help="the record, ending in .json, with an .svg beside it (default: NAME-sensitivity.json here)",
        parse=path,
        metavar="FILE",
    ),
    Flag(
        name="samples",
        group=_GROUP,
        help=f"calibration images to measure on (default: {_DEFAULT_SAMPLES})",
        parse=whole_number,
        metavar="N",
    ),
    Flag("restart", _GROUP, "forget what the record holds, and begin again"),
    Flag("json", _GROUP, "print the record as JSON instead of a table"),
)


def flags() -> list[Flag]:
    """All flags of the command."""
    return [*(flag for flag in FLAGS if flag.name in _SHARED), *OWN_FLAGS]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the argument that is no flag; it may be missing, so that the message can be ours."""
    parser.add_argument("model", metavar="MODEL", nargs="?", type=path, help="the fp32 .onnx file")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code.

    Raises:
        InputError: an argument is missing or wrong.
    """
    model: Path | None = arguments.model
    if model is None:
        raise InputError("MODEL is missing: the fp32 .onnx file to measure")
    if arguments.config is None:
        raise InputError("--config is missing: for example --config=mobilenetv2.yaml")
    if not model.is_file():
        problem = "is a folder; give the file in it" if model.is_dir() else "no such file; check the path"
        raise InputError(f"MODEL {model}: {problem}")
    samples = _DEFAULT_SAMPLES if arguments.samples is None else arguments.samples
    if samples < 1:
        raise InputError(f"--samples: {samples} is too few; give 1 or more")
    config = configured(arguments)
    from quantize.sensitivity import run_sensitivity

    return run_sensitivity(
        config,
        input_model=model,
        output=arguments.output,
        samples=samples,
        restart=arguments.restart,
        as_json=arguments.json,
        verbosity="quiet" if arguments.quiet else "verbose" if arguments.verbose else "normal",
    )
