"""The command line of `sensitivity`, which takes its model as a positional argument."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_flags, add_run_flags, add_threads, new_parser, verbosity
from quantize.cli.configure import configured
from quantize.cli.flags import FLAGS, Flag
from quantize.cli.values import path, whole_number
from quantize.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "sensitivity"
_SUMMARY = "measure what quantizing each operator costs"

_USAGE = "python -m quantize sensitivity MODEL --config=FILE [flags]"

_DESCRIPTION = """Quantizes every operator of an fp32 model alone, leaves every one in fp32 alone, and
measures what that does to the KL divergence from fp32 (in nats), to the agreement with it, and to top-1, on
calibration images (accuracy is judged on others). The operators are ranked by what leaving them in fp32
saves; `tune --sensitivity=FILE` takes this order for its fallbacks.

The model is refined first, once, as `tune` refines what it ships; an operator alone has its refined ranges
and weights, and the model without one is the refined one with that operator back in fp32. --refine=none
measures the model as it is before refinement, which loses more accuracy and is quicker.

What is measured is written after every operator: started again with the same flags, an interrupted run makes
the same refined model again and goes on with the first operator that is missing."""

_EPILOG = """files:
  NAME-sensitivity.json   the record: settings, all operators int8, and each alone and without; ranked
  NAME-sensitivity.svg    its chart
  --json prints the record

examples:
  python -m quantize sensitivity mobilenetv2-12.onnx --config=mobilenetv2.yaml \\
      --dataset_location=imagenet/val --label_path=imagenet/val.txt
  bash run_tuning.sh --input_model=mobilenetv2-12.onnx --config=mobilenetv2.yaml --output_model=out \\
      --dataset_location=imagenet/val --sensitivity=mobilenetv2-12-sensitivity.json"""

_DEFAULT_SAMPLES = 64

# The flags that this command shares with the others, by name.
_SHARED = frozenset(
    {
        "config",
        "target",
        "dataset_location",
        "label_path",
        "calibration_samples",
        "refine",
        "selection_samples",
        "ranges",
        "seed",
        "on_bad_image",
        "follow_links",
    }
)

_GROUP = "measurement"
_OWN_FLAGS = (
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
)


def add_parser(subparsers: Subparsers) -> None:
    """Adds the command; MODEL may be missing, so that the message can be ours."""
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        variables=("ORT_DISABLE_TELEMETRY", "NO_COLOR"),
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", type=path, help="the fp32 .onnx file")
    add_flags(parser, [*(flag for flag in FLAGS if flag.name in _SHARED), *_OWN_FLAGS])
    add_threads(add_run_flags(parser))


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
    from quantize.report.charts.fonts import use_own_fonts
    from quantize.sensitivity import run_sensitivity

    use_own_fonts()

    return run_sensitivity(
        config,
        input_model=model,
        output=arguments.output,
        samples=samples,
        restart=arguments.restart,
        as_json=arguments.json,
        verbosity=verbosity(arguments),
    )


COMMAND = Command(_NAME, _SUMMARY, add_parser, run)
