"""The zoo's row and sentence about a model, and its card. Every figure is measured; names are escaped."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from quantize.package.evidence import Decline, Evidence
from quantize.printable import printable

# The zoo's "MB" are 2^20 bytes: its 13,964,571-byte mobilenetv2-12.onnx is listed with 13.3 MB.
_ZOO_MB_BYTES = 1 << 20

TABLE_HEAD = (
    "|Model        |Download  |Download (with sample test data)| ONNX version |Opset version"
    "|Top-1 accuracy (%)|Top-5 accuracy (%)|\n"
    "|-------------|:--------------|:--------------|:--------------|:--------------"
    "|:--------------|:--------------|"
)


def table_row(
    title: str,
    name: str,
    *,
    model_bytes: int,
    archive_bytes: int,
    onnx_version: str,
    opset: int,
    evidence: Evidence,
) -> str:
    """The model's row in the zoo's table."""
    cells = [
        escaped(title),
        f" [{_megabytes(model_bytes)}](model/{name}.onnx) ",
        f" [{_megabytes(archive_bytes)}](model/{name}.tar.gz) ",
        f" {escaped(onnx_version)} ",
        f" {opset} ",
        f" {100 * evidence.top1:.2f} ",
        f" {100 * evidence.top5:.2f} ",
    ]
    return f"|{'|'.join(cells)}|"


def decline_sentence(title: str, evidence: Evidence) -> str:
    """What int8 costs and brings, in the zoo's words."""
    kind = "qdq" if evidence.kind == "QDQ" else "int8"
    family = escaped(title.removesuffix(f"-{kind}"))
    return (
        f"> Compared with the fp32 {family}, {kind} {family}'s Top-1 accuracy decline ratio is "
        f"{_percent(evidence.top1_decline.estimate)}, Top-5 accuracy decline ratio is "
        f"{_percent(evidence.top5_decline.estimate)} and performance improvement is "
        f"{evidence.speed_up:.2f}x.\n"
        ">\n"
        "> Note the performance depends on the test hardware.\n"
        ">\n"
        f"> Performance data here is collected with {escaped(evidence.cpu)}, {escaped(evidence.system)}, "
        f"1 thread, data batch size is {evidence.latency_images}. Accuracy is measured on {evidence.images} "
        f"images: the Top-1 decline ratio is {_interval(evidence.top1_decline)} with 95 % confidence."
    )


def model_card(title: str, entry: Mapping[str, Any], evidence: Evidence, *, name: str, sample: str) -> str:
    """A page about the model for those who may use it."""
    metadata = entry["metadata"]
    return "\n".join(
        [
            f"# {escaped(title)}",
            "",
            f"An int8 image classifier in ONNX's {evidence.kind} format, made from "
            f"`{_code(PurePath(evidence.fp32_path).name)}` by post-training static quantization.",
            "",
            f"**Verdict of the run:** {escaped(evidence.sentence)}",
            "",
            "## Files",
            "| file | bytes | SHA-256 |",
            "|---|---:|---|",
            f"| `{_code(name)}.onnx` | {metadata['model_bytes']} | `{metadata['model_sha']}` |",
            f"| `{_code(name)}.tar.gz`, with sample test data | {metadata['model_with_data_bytes']} "
            f"| `{metadata['model_with_data_sha']}` |",
            f"| made from: `{_code(PurePath(evidence.fp32_path).name)}` | {evidence.fp32_size_bytes} "
            f"| `{evidence.fp32_sha256}` |",
            "",
            *_measured(evidence),
            "",
            "## Input and output",
            *(f"- input {_port(port)}" for port in metadata["io_ports"]["inputs"]),
            *(f"- output {_port(port)}" for port in metadata["io_ports"]["outputs"]),
            "",
            "Preprocessing, in this order (pixels start as 8-bit RGB, height x width x channel):",
            *_steps(evidence.transforms),
            "",
            f"The sample input in the package is {escaped(sample)}; the output is what the model made of it.",
            "",
            "## How it was made",
            f"Scales were learnt from {evidence.calibration_images} images; accuracy was measured on "
            f"{evidence.overlap_images or 'none'} of them.",
            "",
            "```",
            _fenced(shlex.join(map(_without_folders, evidence.command)) or "not recorded"),
            "```",
            "",
            "Versions: "
            + escaped(", ".join(f"{key} {value}" for key, value in evidence.packages.items()))
            + ".",
            "",
            "## Limits",
            f"- Accuracy is that of {evidence.images} images; on others it differs, as the interval says.",
            "- What the fp32 model gets wrong, this one does too: it inherits its training data, its classes "
            "and its biases, and its licence.",
            "- Speed-up depends on the CPU: int8 pays most where it has integer dot products.",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    safe = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", safe)


def _measured(evidence: Evidence) -> list[str]:
    return [
        "## Measured",
        f"On {evidence.images} images; speed with {evidence.latency_images} image(s) a call and 1 thread on "
        f"{escaped(evidence.cpu)}.",
        "",
        "| | fp32 | int8 |",
        "|---|---:|---:|",
        f"| top-1 | {evidence.fp32_top1:.2%} | {evidence.top1:.2%} |",
        f"| top-5 | {evidence.fp32_top5:.2%} | {evidence.top5:.2%} |",
        f"| top-1 decline ratio (95 % interval) | | {_percent(evidence.top1_decline.estimate)} "
        f"({_interval(evidence.top1_decline)}) |",
        f"| same best class as fp32 | | {evidence.agreement:.2%} |",
        f"| KL divergence from fp32, nats | | {evidence.kl_nats:.4f} |",
        "| operators with weights that run in integers | | "
        f"{evidence.integer_weighted} of {evidence.weighted} |",
        f"| latency, ms | {evidence.fp32_latency_ms:.2f} | {evidence.latency_ms:.2f} |",
        f"| speed-up | 1.00x | {evidence.speed_up:.2f}x |",
    ]


def _steps(transforms: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, step in enumerate(transforms, start=1):
        parameters = {key: value for key, value in step.items() if key != "name"}
        shown = f" `{_code(json.dumps(parameters))}`" if parameters else ""
        lines.append(f"{number}. {escaped(str(step.get('name')))}{shown}")
    return lines


def _port(port: Mapping[str, Any]) -> str:
    shape = "x".join(escaped(str(size)) for size in port["shape"])
    return f"`{_code(str(port['name']))}`: {port['type']}, {shape}"


def _code(text: str) -> str:
    """For a code span: it can hold anything on one line but a backtick."""
    return printable(text).replace("`", "'").replace("|", "\\|")


def _without_folders(word: str) -> str:
    """A word of the command without the folders of the machine that it ran on: a card is published."""
    # A folder may have the sign in its name.
    flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{flag}{equals}{PurePath(value).name}" if PurePath(value).is_absolute() else word


def _fenced(text: str) -> str:
    return printable(text).replace("```", "'''")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _ZOO_MB_BYTES:.1f} MB"


def _percent(fraction: float | None) -> str:
    return "undefined" if fraction is None else f"{100 * fraction:.2f}%"


def _interval(decline: Decline) -> str:
    return f"{_percent(decline.low)} to {_percent(decline.high)}"
