"""`inspect`: what a model holds and how it will run; what tells two models apart."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_run_flags, new_parser, print_json, print_lines
from quantize.cli.values import path

if TYPE_CHECKING:
    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "inspect"
_SUMMARY = "show what a model holds and how it will run; compare two files"
_DIFFERENT = 1

_DESCRIPTION = """Shows opset, inputs and outputs, operators, metadata with provenance, and the size of every
layer; and, from the graph that ONNX Runtime itself makes of the file on this machine, which operators will
run in integers and which in floats. The model is not run, and the file is not changed.

With two models, shows what tells them apart: file, operators, metadata, layers, scales and zero points, and
how many values of which constants differ."""

_EPILOG = """output:
  --json prints one document: file, opsets, inputs, outputs, operators, runtime, metadata, layers, and tensor
  where --tensor asks for one. With two models: left, right, differences [{what, left, right}].
  Characters that a terminal would obey are spelled out (\\x1b).

examples:
  python -m quantize inspect out/mobilenetv2-12-int8.onnx
  python -m quantize inspect out/mobilenetv2-12-int8.onnx --tensor=input --json
  python -m quantize inspect out/mobilenetv2-12-qdq.onnx --operators
  python -m quantize inspect before.onnx after.onnx"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize inspect MODEL [MODEL2] [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        special_codes="  1  two models were given, and they differ",
    )
    parser.add_argument("model", type=path, metavar="MODEL", help="an .onnx file")
    parser.add_argument("other", type=path, metavar="MODEL2", nargs="?", help="a second one to compare with")
    what = parser.add_argument_group("what to show")
    what.add_argument("--tensor", metavar="NAME", help="scale, zero point and range of one tensor instead")
    what.add_argument("--operators", action="store_true", help="every operator as it will run, instead")
    what.add_argument("--layers", action="store_true", help="every layer, not only the largest")
    add_run_flags(parser)


def _run(arguments: argparse.Namespace) -> int:
    from quantize.errors import InputError
    from quantize.inspection import inspect_model, model_text, operators_text, tensor_facts, tensor_text

    if arguments.other is not None:
        for name in ("tensor", "operators", "layers"):
            if getattr(arguments, name):
                raise InputError(f"--{name} has no effect with two models; leave it out")
        return _compare(arguments)
    if arguments.tensor is not None and arguments.operators:
        raise InputError("--tensor and --operators: each is shown instead of all else; keep one")
    facts, model = inspect_model(arguments.model)
    tensor = None if arguments.tensor is None else tensor_facts(model, arguments.tensor)
    if arguments.json:
        print_json(facts.to_json() | ({} if tensor is None else {"tensor": tensor.to_json()}))
    elif tensor is not None:
        print_lines(tensor_text(tensor))
    elif arguments.operators:
        print_lines(operators_text(facts))
    else:
        print_lines(model_text(facts, all_layers=arguments.layers))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from quantize.inspection import differences, differences_text, inspect_model

    left, right = inspect_model(arguments.model), inspect_model(arguments.other)
    found = differences(*left, *right)
    if arguments.json:
        document = {"left": left[0].to_json(), "right": right[0].to_json()}
        print_json(document | {"differences": [difference.to_json() for difference in found]})
    else:
        print_lines(differences_text(found))
    return _DIFFERENT if found else 0


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
