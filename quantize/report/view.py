"""From `report.json` to what a page says: numbers with their units, in words and in tables."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import yaml

from quantize.criterion import Criterion
from quantize.printable import printable

Json = Mapping[str, Any]

_BYTES_PER_MB = 1e6
_NONE = "-"

# Nothing that a page shows has to be longer; a name of a megabyte would bury it.
_TEXT_LIMIT_CHARACTERS = 1000


def cleaned(value: Any) -> Any:
    """The same JSON values, every text printable: no control characters, no half ones, nothing turned."""
    if isinstance(value, Mapping):
        return {_text(str(key)): cleaned(item) for key, item in value.items()}
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence):
        return [cleaned(item) for item in value]
    return value


def _text(text: str) -> str:
    safe = printable(text[:_TEXT_LIMIT_CHARACTERS])
    return safe if len(text) <= _TEXT_LIMIT_CHARACTERS else safe + "…"


def criterion_of(report: Json) -> Criterion:
    """The criterion of a report."""
    given = report["criterion"]
    return Criterion(given["kind"], given["tolerance_fraction"], given["metric"])


def unit_of(report: Json) -> str:
    """What declines are counted in: relative ones in %, absolute ones in percentage points."""
    return "%" if report["criterion"]["kind"] == "relative" else "pp"


def declines_of(report: Json, metric: str) -> dict[str, Json]:
    """Format -> interval of the decline of a metric, as the criterion measures it."""
    key = f"{report['criterion']['kind']}_fraction"
    return {name: one["decline"][metric][key] for name, one in report["models"]["int8"].items()}


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage; a dash where it is undefined."""
    return _NONE if fraction is None else f"{100 * fraction:.{digits}f} %"


def number(value: float | None, digits: int, unit: str = "") -> str:
    """A number with its unit; a dash where it is undefined."""
    return _NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}{unit}"


def synonym(name: str) -> str:
    """The first of the names that a class has, as ImageNet's list writes them."""
    return name.partition(", ")[0]


def images_per_s(report: Json) -> dict[str, float]:
    """fp32 or format -> images per second in batches, on one thread; empty where it was not measured."""
    found = report["throughput"]
    return {} if found is None else {name: float(rate) for name, rate in found["images_per_s"].items()}


def throughput_conditions(report: Json) -> str:
    """How the throughput was measured, in a few words."""
    found = report["throughput"]
    if found is None:
        return "not measured"
    images = "1 image" if found["batch_size"] == 1 else f"{found['batch_size']} images"
    own = ", the only size that the model takes" if found["fixed_batch"] else ""
    return f"one thread, batches of {images}{own}"


def _accuracy(metric: str, of_model: Json) -> str:
    return percent(of_model["accuracy"][f"{metric}_fraction"])


def outcome_table(report: Json) -> tuple[list[str], list[list[str]]]:
    """Everything that was measured of the models: the head of a table, and its rows."""
    models = report["models"]
    files: dict[str, Json] = {"fp32": models["fp32"], **models["int8"]}
    rows: list[list[str]] = []

    def file_row(label: str, show: Callable[[Json], str]) -> None:
        rows.append([label, *(show(one) for one in files.values())])

    def int8_row(label: str, of_fp32: str, show: Callable[[Json], str]) -> None:
        rows.append([label, of_fp32, *(show(one) for one in models["int8"].values())])

    for metric, label in (("top1", "top-1"), ("top5", "top-5")):
        file_row(label, partial(_accuracy, metric))
        _decline_rows(report, metric, label, int8_row)
    int8_row("agreement with fp32", _NONE, lambda one: percent(one["agreement_fraction"]))
    int8_row("KL(fp32, int8), nats", _NONE, lambda one: number(one["kl_nats"], 4))
    file_row("size, MB", lambda one: number(one["size_bytes"] / _BYTES_PER_MB, 2))
    file_row("median latency, ms", lambda one: number(one["latency"]["median_ms"], 2))
    file_row("90th / 99th percentile, ms", _tail)
    int8_row("speed-up of one call", "1.00x", lambda one: number(one["speed_up"], 2, "x"))
    _throughput_rows(report, files, rows)
    file_row("integer operators", _integers)
    return list(files), rows


def _throughput_rows(report: Json, files: Mapping[str, Json], rows: list[list[str]]) -> None:
    rates = images_per_s(report)
    if not rates:
        return
    found = report["throughput"]
    ratios = {name: number(found["ratios"].get(name), 2, "x") for name in files}
    batch = f"batches of {found['batch_size']}"
    rows.append([f"images per second, {batch}", *(number(rates.get(name), 0) for name in files)])
    rows.append([f"speed-up in {batch}", *ratios.values()])


def _tail(file: Json) -> str:
    latency = file["latency"]
    return f"{number(latency['p90_ms'], 2)} / {number(latency['p99_ms'], 2)}"


def _integers(file: Json) -> str:
    return f"{file['kernels']['integer_weighted']} of {file['kernels']['weighted']}"


def _decline_rows(report: Json, metric: str, label: str, int8_row: Callable[..., None]) -> None:
    unit, key = unit_of(report), f"{report['criterion']['kind']}_fraction"

    def estimate(one: Json) -> str:
        value = one["decline"][metric][key]["estimate"]
        return number(None if value is None else 100 * value, 2, f" {unit}")

    def interval(one: Json) -> str:
        low, high = (one["decline"][metric][key][end] for end in ("low", "high"))
        return _NONE if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"

    def images(one: Json) -> str:
        outcomes = one["decline"][metric]["outcomes"]
        return f"{outcomes['lost']} / {outcomes['won']}"

    int8_row(f"{label} decline, {report['criterion']['kind']}", _NONE, estimate)
    int8_row("95 % interval", _NONE, interval)
    int8_row("images lost / won", _NONE, images)


def tiles(report: Json) -> list[dict[str, str]]:
    """The four figures that decide, of the format that the configuration asks for first."""
    models = report["models"]
    name = (
        models["primary_format"] if models["primary_format"] in models["int8"] else next(iter(models["int8"]))
    )
    int8, fp32 = models["int8"][name], models["fp32"]
    metric, unit = report["criterion"]["metric"], unit_of(report)
    interval = declines_of(report, metric)[name]
    lost = interval["estimate"]
    label = criterion_of(report).metric_label
    ratio = fp32["size_bytes"] / int8["size_bytes"] if int8["size_bytes"] else None
    return [
        {
            "label": f"{label} lost",
            "value": number(None if lost is None else max(100 * lost, 0.0), 2, f" {unit}"),
            "note": f"{percent(fp32['accuracy'][metric + '_fraction'])} → "
            f"{percent(int8['accuracy'][metric + '_fraction'])}",
        },
        {
            "label": "speed-up",
            "value": number(int8["speed_up"], 2, "x"),
            "note": f"{number(fp32['latency']['median_ms'], 2)} → "
            f"{number(int8['latency']['median_ms'], 2)} ms",
        },
        {
            "label": "smaller",
            "value": number(ratio, 2, "x"),
            "note": f"{number(fp32['size_bytes'] / _BYTES_PER_MB, 2)} → "
            f"{number(int8['size_bytes'] / _BYTES_PER_MB, 2)} MB",
        },
        {
            "label": "same answer as fp32",
            "value": percent(int8["agreement_fraction"]),
            "note": f"of {report['models']['fp32']['accuracy']['images']} images",
        },
    ]


def ranked_sensitivity(report: Json) -> list[tuple[str, float]]:
    """(operator, nats saved by leaving it in fp32), most harmful first."""
    found = {k: v for k, v in report["tuning"]["sensitivity_nats"].items() if v is not None}
    return sorted(found.items(), key=lambda pair: -pair[1])


def command_of(report: Json) -> str:
    """The command that repeats the run, for a shell, a flag a line; empty where it was not started by one."""
    lines: list[str] = []
    for word in report["run"]["command"]:
        quoted = shlex.quote(word)
        if lines and not word.startswith("--"):
            lines[-1] += f" {quoted}"
        else:
            lines.append(quoted)
    return " \\\n    ".join(lines)


def configuration_of(report: Json) -> str:
    """The configuration, defaults included, as YAML."""
    # Through JSON, because a mapping of another kind is nothing that YAML's safe writer knows.
    plain = json.loads(json.dumps(report["run"]["configuration"]))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return text
