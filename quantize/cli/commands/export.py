"""`export`: a finished model for other targets."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_run_flags, new_parser, print_json, print_lines
from quantize.cli.values import one_of, path, whole_number
from quantize.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "export"
_SUMMARY = "make an .ort file, a uint8-input variant, or a server's model repository"

_DESCRIPTION = """Makes a finished model ready for another target. What ort and uint8 make is run and compared
with the model that it was made from before it gets its name.

  ort     ONNX Runtime's own format, for its reduced builds in apps
  uint8   the model with normalization and layout inside, so that an app feeds raw pixels
  triton  a model repository for inference servers that speak the KServe V2 protocol"""

_EPILOG = """Each target has a help of its own: python -m quantize export ort --help

examples:
  python -m quantize export ort out/m-int8.onnx
  python -m quantize export uint8 out/m-int8.onnx --config=my.yaml
  python -m quantize export triton out/m-int8.onnx --output=models --labels=synset.txt"""

_ORT = """Converts a model to ONNX Runtime's own file format (.ort), which its minimal and mobile builds read,
and writes the list of operators that such a build needs (give it to the build's --include_ops_by_config).

The graph is optimized up to the level "extended", which gives operators that every processor has: nothing
of the machine that converts gets into the file. Convert int8 models; a float one runs slower as .ort on
x86, and a warning says so. The bytes of two conversions differ, what they compute does not."""

_ORT_EPILOG = """files, below --output:
  NAME.ort, NAME.required_operators.config
  --json prints one document: model, required_operators, agreement, warnings

example:
  python -m quantize export ort out/mobilenetv2-12-int8.onnx --output=app/assets"""

_UINT8 = """Puts the arithmetic of the preprocessing (Rescale, Normalize, Transpose) in front of the model, in
the same order and precision, so that it takes uint8 RGB pixels. Resizing and cropping stay with the app;
the result's metadata says which. Its outputs are compared with those of the model behind its own
preprocessing, bit for bit, on noise in which every channel has all 256 values, and on --images."""

_UINT8_EPILOG = """files, below --output:
  NAME-uint8.onnx, with an input called pixels
  --json prints one document: model, input, layout, left_for_the_app, agreement, compared_on

example:
  python -m quantize export uint8 out/mobilenetv2-12-int8.onnx --images photo1.jpg photo2.jpg"""

_TRITON = """Writes NAME/config.pbtxt, NAME/labels.txt (with --labels) and NAME/VERSION/model.onnx below
--output, the folder that a server's --model-repository names. A model whose batch size is open may be
batched by the server, up to --max_batch_size. Other models and versions in the repository stay. uint8
variants work as well."""

_TRITON_EPILOG = """output:
  --json prints one document: model, folder, files, max_batch_size, inputs, outputs

example:
  python -m quantize export triton out/mobilenetv2-12-int8.onnx --output=models --labels=synset.txt"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize export ort|uint8|triton MODEL [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    targets = parser.add_subparsers(dest="target", metavar="TARGET", title="targets", required=True)
    ort = _target(targets, "ort", "ONNX Runtime's own format", _ORT, epilog=_ORT_EPILOG)
    add_run_flags(ort)
    uint8 = _target(targets, "uint8", "a variant that takes raw pixels", _UINT8, epilog=_UINT8_EPILOG)
    what = uint8.add_argument_group("what to fold")
    what.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="the configuration whose preprocessing to fold (default: mobilenetv2.yaml, if it fits)",
    )
    what.add_argument(
        "--layout",
        type=one_of("NHWC", "NCHW"),
        default="NHWC",
        metavar="L",
        help="of the pixels: NHWC or NCHW (default: NHWC)",
    )
    what.add_argument(
        "--images",
        type=path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="photographs to compare on as well (default: noise only)",
    )
    add_run_flags(uint8)
    triton = _target(targets, "triton", "a server's model repository", _TRITON, epilog=_TRITON_EPILOG)
    served = triton.add_argument_group("what the server sees")
    served.add_argument("--name", metavar="NAME", help="of the model (default: its file's name)")
    served.add_argument(
        "--model_version", type=whole_number, default=1, metavar="N", help="of the model (default: 1)"
    )
    served.add_argument(
        "--max_batch_size",
        type=whole_number,
        default=8,
        metavar="N",
        help="images per batch, if the model takes any number (default: 8)",
    )
    served.add_argument(
        "--labels", type=path, metavar="FILE", help="names of the classes, one a line (default: numbers only)"
    )
    add_run_flags(triton)


def _target(
    targets: Subparsers, name: str, summary: str, description: str, *, epilog: str
) -> argparse.ArgumentParser:
    parser = new_parser(
        targets,
        name,
        summary=summary,
        usage=f"python -m quantize export {name} MODEL [flags]",
        description=description,
        epilog=epilog,
        variables=("ORT_DISABLE_TELEMETRY",) if name != "triton" else (),
    )
    parser.add_argument("model", type=path, metavar="MODEL", help="an .onnx classifier")
    default = "model-repository" if name == "triton" else "beside the model"
    parser.add_argument("--output", type=path, metavar="DIR", help=f"where to write (default: {default})")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    document, lines = {"ort": _ort, "uint8": _uint8, "triton": _triton}[arguments.target](arguments)
    if arguments.json:
        print_json(document)
    else:
        print_lines("\n".join(map(printable, lines)))
    return 0


def _ort(arguments: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from quantize.exporting import export_ort

    made = export_ort(arguments.model, arguments.output or arguments.model.absolute().parent)
    lines = [f"wrote {made.model}", f"wrote {made.operators}", made.agreement.sentence]
    return made.to_json(), lines + [f"warning: {warning}" for warning in made.warnings]


def _uint8(arguments: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from quantize.exporting import export_pixels
    from quantize.stages import Stages

    made = export_pixels(
        arguments.model,
        arguments.output or arguments.model.absolute().parent,
        config=arguments.config,
        layout=arguments.layout,
        images=arguments.images,
    )
    if made.note is not None:
        Stages("quiet" if arguments.quiet else "normal").say(f"note: {made.note}")
    left = ", ".join(map(_step, made.app)) or "nothing"
    shape = "x".join(map(str, made.input_shape))
    return made.to_json(), [
        f"wrote {made.model}",
        f"input {made.input_name}: uint8 RGB, {shape} ({made.layout}); left for the app: {left}",
        f"{made.agreement.sentence}: {made.compared}",
    ]


def _step(step: Mapping[str, object]) -> str:
    """A transform with what an app has to know to do the same, such as `CenterCrop (size 224x224)`."""
    shown = {
        name: "x".join(map(str, value)) if isinstance(value, list) else value for name, value in step.items()
    }
    parameters = ", ".join(f"{name} {value}" for name, value in shown.items() if name != "name")
    return f"{step['name']} ({parameters})" if parameters else str(step["name"])


def _triton(arguments: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from pathlib import Path

    from quantize.exporting import export_repository

    made = export_repository(
        arguments.model,
        arguments.output or Path("model-repository"),
        name=arguments.name,
        version=arguments.model_version,
        max_batch_size=arguments.max_batch_size,
        labels=arguments.labels,
    )
    return made.to_json(), [f"wrote {file}" for file in made.files]


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
