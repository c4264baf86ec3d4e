"""`prepare`: gets the model and the images that everything else starts from."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.cli.commands.common import Command, add_run_flags, new_parser, print_json, print_lines
from quantize.cli.values import path

if TYPE_CHECKING:
    from collections.abc import Callable

    from quantize.cli.commands.common import Subparsers

__all__ = ["COMMAND"]

_NAME = "prepare"
_SUMMARY = "download and check a model; unpack ImageNet's validation images"

# Often enough to see that it goes on, seldom enough for a log.
_PROGRESS_INTERVAL_S = 5.0

_DESCRIPTION = """Gets what a run starts from.

  model      downloads a model, or checks a file: its hash, and that it is ONNX
  imagenet   turns the official validation archive and its ground truth into images and val.txt"""

_EPILOG = """Each has a help of its own: python -m quantize prepare model --help

examples:
  python -m quantize prepare model mobilenetv2-12
  python -m quantize prepare imagenet --val_tar=ILSVRC2012_img_val.tar \\
      --devkit=ILSVRC2012_devkit_t12.tar.gz --out=imagenet"""

_MODEL = """Makes a model be there, whole and checked. SOURCE is the name of a known model, an address
(https://…), or a file, which is only checked. An interrupted download goes on where it ended, if the server
allows it. The file gets its name only if its SHA-256 is right: that of a known model, or --sha256. An
address that is not encrypted (http://…) needs --sha256.

Known are the MobileNetV2 files of the ONNX Model Zoo:

  mobilenetv2-12        fp32, opset 12, any batch size; 14.0 MB
  mobilenetv2-10        fp32, opset 10, any batch size; 14.0 MB
  mobilenetv2-7         fp32, opset 7, batches of one image; 14.2 MB
  mobilenetv2-12-int8   quantized by others, QOperator; 3.7 MB
  mobilenetv2-12-qdq    quantized by others, QDQ; 3.6 MB (to begin from: tune --start_from)"""

_MODEL_EPILOG = """files:
  NAME.part, NAME.part.json   what has arrived of a download that was interrupted
  --json prints one document: path, sha256, size_bytes, known, downloaded

examples:
  python -m quantize prepare model mobilenetv2-12 --output=models
  python -m quantize prepare model https://example.org/net.onnx --sha256=0123…
  python -m quantize prepare model downloads/mobilenetv2-12.onnx"""

_IMAGENET = """Unpacks ILSVRC2012_img_val.tar and writes the labels that belong to its images. The labels come
from one of:

  --devkit        ILSVRC2012_devkit_t12.tar.gz, the official kit; also names the classes
  --ground_truth  lines 'name label', labels from 0 in the order of WordNet ids, as most val.txt are; or
                  ILSVRC2012_validation_ground_truth.txt with --synsets, lines 'wnid name' in ILSVRC's order

The archive's SHA-1 has to be the official one (or --sha1). Nothing but images is taken out of it. Running it
again writes what is missing or different, and nothing else."""

_IMAGENET_EPILOG = """files, below --out:
  images/ILSVRC2012_val_00000001.JPEG …
  val.txt      lines 'name label'; written last, so that where it is, everything is
  synset.txt   lines 'wnid name' in label order, where the classes are named
  --json prints one document: dataset_location, label_path, synset, count, written

example:
  python -m quantize prepare imagenet --val_tar=ILSVRC2012_img_val.tar --ground_truth=val.txt --out=here"""


def _add_parser(subparsers: Subparsers) -> None:
    parser = new_parser(
        subparsers,
        _NAME,
        summary=_SUMMARY,
        usage="python -m quantize prepare model|imagenet …",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    what = parser.add_subparsers(dest="what", metavar="WHAT", title="what", required=True)
    _add_model(what)
    _add_imagenet(what)


def _add_model(what: Subparsers) -> None:
    parser = new_parser(
        what,
        "model",
        summary="download a model, or check one",
        usage="python -m quantize prepare model SOURCE [flags]",
        description=_MODEL,
        epilog=_MODEL_EPILOG,
        variables=("https_proxy, no_proxy",),
    )
    parser.add_argument("source", metavar="SOURCE", help="a known name, an address, or a file")
    parser.add_argument(
        "--output", type=path, default=Path(), metavar="OUT", help="a folder, or a name.onnx (default: here)"
    )
    parser.add_argument(
        "--sha256",
        metavar="HEX",
        help="what the content has to be (default: of a known model, its own; else anything)",
    )
    add_run_flags(parser)


def _add_imagenet(what: Subparsers) -> None:
    parser = new_parser(
        what,
        "imagenet",
        summary="unpack ImageNet's validation images",
        usage="python -m quantize prepare imagenet --val_tar=TAR --out=DIR --devkit=KIT [flags]",
        description=_IMAGENET,
        epilog=_IMAGENET_EPILOG,
    )
    parser.add_argument(
        "--val_tar", type=path, required=True, metavar="TAR", help="ILSVRC2012_img_val.tar (required)"
    )
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="where to write (required)")
    labels = parser.add_argument_group("labels")
    labels.add_argument("--devkit", type=path, metavar="KIT", help="ILSVRC2012_devkit_t12.tar.gz")
    labels.add_argument(
        "--ground_truth", type=path, metavar="FILE", help="a val.txt, or ILSVRC's own numbers"
    )
    labels.add_argument("--synsets", type=path, metavar="FILE", help="classes in the order of these numbers")
    parser.add_argument(
        "--sha1",
        metavar="HEX",
        help="of another archive of the same layout; 'any' trusts it (default: the official one's)",
    )
    add_run_flags(parser)


def _run(arguments: argparse.Namespace) -> int:
    document, lines = (_model if arguments.what == "model" else _imagenet)(arguments)
    if arguments.json:
        print_json(document)
    else:
        print_lines("\n".join(lines))
    return 0


def _model(arguments: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from quantize.acquire import acquire_model

    said = _progress(arguments.quiet)
    found = acquire_model(
        arguments.source,
        arguments.output,
        sha256=arguments.sha256,
        progress=lambda done, total: said("downloading", done, total),
    )
    known = "not a file that is known here" if found.known is None else found.known.what
    how = "downloaded" if found.downloaded else "was there already"
    return found.to_json(), [
        f"{found.path}: {how}, {found.size_bytes} bytes, SHA-256 {found.sha256}; {known}"
    ]


def _imagenet(arguments: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from quantize.acquire import OFFICIAL_SHA1, prepare_imagenet, read_devkit, read_ground_truth
    from quantize.errors import InputError

    if (arguments.devkit is None) == (arguments.ground_truth is None):
        raise InputError("--devkit or --ground_truth: give one of them, for the labels")
    if arguments.devkit is not None and arguments.synsets is not None:
        raise InputError("--synsets has no effect with --devkit, which has its own; leave it out")
    if arguments.devkit is not None:
        truth = read_devkit(arguments.devkit)
    else:
        truth = read_ground_truth(arguments.ground_truth, arguments.synsets)
    sha1 = OFFICIAL_SHA1 if arguments.sha1 is None else arguments.sha1
    made = prepare_imagenet(
        arguments.val_tar,
        truth,
        arguments.out,
        sha1=None if sha1 == "any" else sha1,
        progress=_progress(arguments.quiet),
    )
    return made.to_json(), [
        f"{made.count} images, {made.written} of them new; use them with "
        f"--dataset_location={made.images} --label_path={made.image_list}"
    ]


def _progress(quiet: bool) -> Callable[[str, int, int | None], None]:
    """Says on standard error how far it is, every few seconds."""
    last_s = time.monotonic()

    def say(what: str, done: int, total: int | None) -> None:
        nonlocal last_s
        if quiet or time.monotonic() - last_s < _PROGRESS_INTERVAL_S:
            return
        last_s = time.monotonic()
        share = f"{100 * done / total:.0f} %" if total else f"{done}"
        print(f"{what}: {share}", file=sys.stderr, flush=True)

    return say


COMMAND = Command(_NAME, _SUMMARY, _add_parser, _run)
