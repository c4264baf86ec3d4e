"""`package`: what a model zoo asks for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_run_flags, new_parser, print_json, print_lines
from quantize.cli.values import path
from quantize.printable import printable

if TYPE_CHECKING:
    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "package"
_SUMMARY = "make a model zoo's package, manifest entry, README row and card"
_OUTPUT = Path("zoo-package")

_DESCRIPTION = """Packages int8 models as the ONNX Model Zoo does. Every figure in the texts is taken from the
report that tuning wrote beside the model, and only if it names the model's very bytes. The package is checked
by running the model in it on the input in it; the output has to be the same, bit for bit. The same model and
input give the same archive, byte for byte."""

_EPILOG = """files, below --output:
  model/NAME.onnx, model/NAME.tar.gz   the model; the archive holds NAME/NAME.onnx and
                                       NAME/test_data_set_0/{input_0,output_0}.pb
  ONNX_HUB_MANIFEST.json               entries for ONNX's hub client; one there already is extended, and
                                       entries of the same model and opset are replaced
  README-rows.md                       rows for the zoo's table, and its sentence on declines and speed
  NAME-card.md                         model card
  --json prints one document: packages [{name, manifest, row, sentence}], files

examples:
  python -m quantize package out/mobilenetv2-12-int8.onnx --title='MobileNet v2-1.0-int8'
  python -m quantize package out/m-int8.onnx out/m-qdq.onnx --output=zoo --image=photo.jpg"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize package MODEL… [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("models", nargs="+", type=path, metavar="MODEL", help="int8 .onnx files")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--output", type=path, default=_OUTPUT, metavar="DIR", help=f"where to write (default: {_OUTPUT})"
    )
    files.add_argument(
        "--report", type=path, metavar="FILE", help="the report (default: the one beside the model)"
    )
    files.add_argument(
        "--image", type=path, metavar="FILE", help="photograph for the sample input (default: seeded noise)"
    )
    files.add_argument(
        "--config", type=path, metavar="FILE", help="the configuration whose preprocessing the image gets"
    )
    names = parser.add_argument_group("names")
    names.add_argument(
        "--title", metavar="TEXT", help="what people call the model (default: its file's name)"
    )
    names.add_argument(
        "--zoo_folder",
        metavar="DIR",
        help="its folder in the zoo (default: validated/vision/classification/NET)",
    )
    names.add_argument("--tags", metavar="A,B", help="for the manifest (default: vision,classification,NET)")
    names.add_argument(
        "--allow_failed", action="store_true", help="package a model that did not meet its tolerance"
    )
    add_run_flags(parser)


def _run(arguments: argparse.Namespace) -> int:
    from quantize.errors import InputError
    from quantize.package import Request, make_package, write_packages

    if arguments.title is not None and len(arguments.models) > 1:
        raise InputError("--title: names one model, but several are given; package them one after another")
    if arguments.config is not None and arguments.image is None:
        raise InputError("--config has no effect without --image; leave it out")
    tags = tuple(tag.strip() for tag in (arguments.tags or "").split(",") if tag.strip())
    packages = [
        make_package(
            Request(
                model=model,
                report=arguments.report,
                title=arguments.title,
                zoo_folder=arguments.zoo_folder,
                tags=tags,
                image=arguments.image,
                config=arguments.config,
                allow_failed=arguments.allow_failed,
            )
        )
        for model in arguments.models
    ]
    written = write_packages(packages, arguments.output)
    if arguments.json:
        shown = [
            {"name": made.name, "manifest": made.entry, "row": made.row, "sentence": made.sentence}
            for made in packages
        ]
        print_json({"packages": shown, "files": [str(file) for file in written]})
        return 0
    for made in packages:
        print_lines(made.row)
    if not arguments.quiet:
        for file in written:
            print_lines(printable(f"wrote {file}"))
    return 0


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
