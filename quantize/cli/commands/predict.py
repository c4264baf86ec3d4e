"""`predict`: what a model says about images."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.cli.commands.common import (
    Command,
    add_run_flags,
    add_threads,
    new_parser,
    print_json,
    print_lines,
    verbosity,
)
from quantize.cli.values import one_of, path, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantize.cli.commands.common import Subparsers
    from quantize.prediction import Prediction, Predictor, Writer

__all__ = ["COMMAND"]

_NAME = "predict"
_SUMMARY = "say what a model sees in images; compare two models"
_SOME_FAILED = 1

_DESCRIPTION = """Classifies images, with the most probable classes first. IMAGES are files, folders
(searched to any depth), quoted patterns such as 'photos/**/*.jpg', or - for standard input: one image,
or names of files, one a line or separated by NUL. An image that cannot be read is reported, and the
others go on.

The images are preprocessed as the evaluation images of --config are; its data paths need not be filled
in. A model that takes Nx3x224x224 gets the preprocessing of configs/mobilenetv2.yaml where no
configuration is given, and a note says so. Scores that are no probabilities yet go through a softmax."""

_EPILOG = """output:
  table   one line for each guess. With --compare, only images whose best class differs, both models side by
          side, and how many there are
  jsonl   one JSON object a line, one line an image: image, predictions [{class, probability, wnid, name}],
          and with --compare: other, agree, kl_nats. An image that failed has error instead
  csv     one row for each guess, with a header
  --json  one document: models, summary, images (as jsonl)
  Characters that a terminal would obey are spelled out (\\x1b) in tables and CSV, and escaped in JSON.

examples:
  python -m quantize predict out/m-int8.onnx photo.jpg --labels=synset.txt
  python -m quantize predict out/m-int8.onnx photos/ --format=csv --top_k=1 > classes.csv
  python -m quantize predict m.onnx photos/ --compare=out/m-int8.onnx --labels=synset.txt
  find . -name '*.png' -print0 | python -m quantize predict digits.onnx - --config=demo_digits.yaml"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize predict MODEL IMAGES… [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        special_codes="  1  some images could not be read; the others are done",
    )
    parser.add_argument("model", type=path, metavar="MODEL", help="an .onnx classifier, fp32 or int8")
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, 'patterns', or -")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="the configuration whose transforms to use (default: mobilenetv2.yaml, if it fits)",
    )
    files.add_argument(
        "--labels",
        type=path,
        metavar="FILE",
        help="names of the classes, one 'wnid name, name' a line (default: numbers only)",
    )
    files.add_argument(
        "--compare", type=path, metavar="M2.onnx", help="show where this model differs (default: MODEL alone)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--top_k", type=whole_number, default=5, metavar="K", help="guesses for each image (default: 5)"
    )
    output.add_argument(
        "--format",
        type=one_of("table", "jsonl", "csv"),
        metavar="FORMAT",
        help="table, jsonl or csv (default: table)",
    )
    output.add_argument(
        "--batch_size", type=whole_number, default=8, metavar="N", help="images per inference (default: 8)"
    )
    add_threads(add_run_flags(parser))


def _run(arguments: argparse.Namespace) -> int:
    from quantize.config.machine import available_cores
    from quantize.errors import InputError
    from quantize.prediction import find_images, make_predictor, run_predictions
    from quantize.scratch import temporary_folder
    from quantize.stages import Stages

    if arguments.json and arguments.format is not None:
        raise InputError(f"--json and --format={arguments.format} contradict each other; keep one")
    stages = Stages(verbosity(arguments))
    predictor = make_predictor(
        arguments.model,
        other=arguments.compare,
        config=arguments.config,
        labels=arguments.labels,
        top_k=arguments.top_k,
        batch_size=arguments.batch_size,
        threads=arguments.threads if arguments.threads is not None else available_cores(),
    )
    if predictor.preprocessing.assumed:
        stages.say(f"note: {predictor.preprocessing.note}")
    if arguments.labels is None and arguments.format in (None, "table") and not arguments.json:
        stages.say(
            "note: no --labels: classes have numbers only; a file such as ImageNet's synset.txt names them"
        )
    with temporary_folder("predict") as scratch:
        folder = str(scratch)
        paths = find_images(arguments.images, sys.stdin.buffer, scratch)
        for line in predictor.saturation(paths) if arguments.compare is not None else ():
            stages.say(f"note: {line}")
        writer = _Reporting(_writer(arguments, predictor, [_shown(path, folder) for path in paths]), folder)
        # On one terminal, the progress bar and the table would write over each other.
        apart = not (sys.stdout.isatty() and sys.stderr.isatty())
        summary = run_predictions(predictor, paths, writer, progress=stages.shown and apart)
    return _SOME_FAILED if summary.failed else 0


def _shown(path: Path, folder: str) -> Path:
    """What to call a file: that of standard input has a name that nobody chose."""
    return Path("-") if path.parent == Path(folder) else path


class _Reporting:
    """A writer that also says on standard error which images could not be read."""

    def __init__(self, writer: Writer, folder: str) -> None:
        self.writer = writer
        self.folder = folder
        self.finish = writer.finish

    def write(self, prediction: Prediction) -> None:
        from quantize.printable import printable

        prediction = replace(prediction, path=_shown(prediction.path, self.folder))
        if prediction.problem:
            print(printable(f"error: {prediction.path}: {prediction.problem}"), file=sys.stderr)
        self.writer.write(prediction)


def _writer(arguments: argparse.Namespace, predictor: Predictor, paths: Sequence[Path]) -> Writer:
    from quantize.prediction import CsvWriter, DocumentWriter, JsonLinesWriter, TableWriter
    from quantize.printable import printable

    paths_of_models = [str(model.path) for model in predictor.models]
    if arguments.json:  # which escapes for itself
        return DocumentWriter(print_json, paths_of_models)
    names = [printable(path) for path in paths_of_models]
    if arguments.format == "jsonl":
        return JsonLinesWriter(print_lines)
    if arguments.format == "csv":
        return CsvWriter(print_lines, compared=len(names) > 1)
    return TableWriter(print_lines, paths, [Path(name).name for name in names], quiet=arguments.quiet)


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
