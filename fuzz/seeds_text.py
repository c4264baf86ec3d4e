"""Seeds of the targets that read text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from quantize.diagnose.record import SCHEMA_VERSION

_CONFIGURATION = """\
model: {name: m, framework: onnxrt_qdq}
quantization:
  approach: post_training_static_quant
  quant_format: QDQ
  calibration:
    sampling_size: [8, 16]
    dataloader:
      batch_size: 2
      dataset: {ImagenetRaw: {data_path: images, image_list: val.txt}}
      transform: &steps
        ResizeShortest: {size: 256, interpolation: bilinear}
        CenterCrop: {size: [224, 224]}
        Rescale: {}
        Normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
        Transpose: {perm: [2, 0, 1]}
        Cast: {dtype: float32}
  optype_wise: {Conv: {weight: {dtype: [fp32]}}}
  op_wise: {"conv_[0-9]": {activation: {dtype: [fp32]}}}
evaluation:
  accuracy:
    metric: {topk: 5}
    dataloader: {dataset: {ImageFolder: {root: images}}, transform: *steps}
  performance: {warmup: 1, iteration: 3, configs: {cores_per_instance: 1, num_of_instance: 1}}
refine: {effort: full, selection_samples: 5, ranges: quantile}
tuning:
  strategy: {name: sensitivity}
  accuracy_criterion: {absolute: "1.5%"}
  exit_policy: {timeout: 0, max_trials: 3}
  random_seed: 1
threads: 2
cache: {size: 1}
"""

_OTHER_TRANSFORMS = """\
quantization:
  calibration:
    dataloader:
      dataset: {ImageFolder: {root: images}}
      transform:
        BilinearImagenet: {height: 32, width: 32, central_fraction: 0.875, mean_value: [0, 0, 0], scale: 1.0}
evaluation:
  accuracy:
    dataloader:
      dataset: {ImageFolder: {root: images}}
      transform: {ResizeCropImagenet: {height: 32, width: 32, resize_side: 40}, LabelShift: {label_shift: 1}}
"""

_LAUGHS = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nmodel: {name: *c}\n"

_TAGS = '!!python/object/apply:os.system ["true"]\n--- !!set {a, b}\n'

_ODD_VALUES = """\
tuning: {accuracy_criterion: {relative: .nan}, random_seed: -1, exit_policy: {max_trials: 0x1F, timeout: 1e3}}
? {complex: key}
: 2026-11-24
<<: {version: 1.0}
threads: ~
device: "\\u0000"
"""


def configuration() -> Mapping[str, str | bytes]:
    """Every section, every transform, and what YAML has to attack with."""
    return {
        "all-sections.yaml": _CONFIGURATION,
        "other-transforms.yaml": _OTHER_TRANSFORMS,
        "aliases.yaml": _LAUGHS,
        "tags.yaml": _TAGS,
        "odd-values.yaml": _ODD_VALUES,
        "deep.yaml": "[" * 60 + "]" * 60,
        "empty.yaml": "",
        "latin-1.yaml": "model: {name: caf\u00e9}".encode("latin-1"),
    }


def image_list() -> Mapping[str, str | bytes]:
    """Lines that are right, and one of each kind that is wrong."""
    return {
        "good.txt": "a.png 0\nn01/b c.png 999999999\n",
        "windows.txt": "\ufeffa.png 1\r\n\r\n./n01//b c.png\t2\r\n",
        "outside.txt": "../../etc/passwd 1\n",
        "absolute.txt": "/etc/passwd 1\n",
        "twice.txt": "a.png 0\n./a.png 1\n",
        "labels.txt": "a.png -1\nn01/b c.png 1e3\n",
        "missing.txt": "b.png 0\na.png\n",
        "separators.txt": "a.png\u2028 1\x0c\nb\x00.png 2\n",
    }


def labels() -> Mapping[str, str | bytes]:
    """Names with and without ids, `name label` lines, numbers, and numbers with their synsets behind NUL."""
    synsets = "n02119789 kit fox, Vulpes\nn01440764 tench\n"
    return {
        "synsets.txt": synsets,
        "empty.txt": "",
        "names.txt": "kit fox\n\ntench\n",
        "labelled.txt": "a/ILSVRC2012_val_00000001.JPEG 7\nILSVRC2012_val_00000002.JPEG 999\n",
        "numbers.txt": "1\n2\n1\n",
        "numbers-and-synsets.txt": f"2\n1\n\0{synsets}",
    }


def records() -> Mapping[str, str | bytes]:
    """A record of each kind, as small as it can be."""
    effect = {name: 0.5 for name in ("kl_nats", "agreement_fraction", "top1_fraction")}
    operator = {"name": "conv", "op_type": "Conv", "alone": effect, "without": effect, "saved_nats": 0.1}
    sensitivity = {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "settings": {"model": "m"},
        "rule": "minmax",
        "fp32_top1_fraction": None,
        "int8": effect,
        "operators": [operator],
    }
    return {
        "sensitivity.json": json.dumps(sensitivity),
        "report.json": json.dumps(_report()),
        "manifest.json": json.dumps([{"model": "m", "opset_version": 13}]),
        "deep.json": "[" * 300 + "]" * 300,
        "numbers.json": '{"models": {"int8": {"QDQ": {"sha256": NaN}}}, "x": [1e999, -0, 1e-999]}',
    }


def _report() -> dict[str, object]:
    """What is read of a report when a model is packaged."""
    accuracy = {"images": 4, "top1_fraction": 0.5, "top5_fraction": 1.0}
    decline = {"relative_fraction": {"estimate": 0.0, "low": None, "high": 0.1}}
    int8 = {
        "sha256": "0" * 64,
        "accuracy": accuracy,
        "decline": {"top1": decline, "top5": decline},
        "agreement_fraction": 1.0,
        "kl_nats": 0.01,
        "kernels": {"integer_weighted": 1, "weighted": 1},
        "speed_up": 2.0,
        "latency": {"median_ms": 1.0},
    }
    fp32 = {
        "accuracy": accuracy,
        "latency": {"median_ms": 2.0},
        "path": "m.onnx",
        "sha256": "1" * 64,
        "size_bytes": 100,
    }
    return {
        "verdict": {"passed": True, "sentence": "ok"},
        "models": {"fp32": fp32, "int8": {"QDQ": int8}},
        "latency_images": 1,
        "images": {"calibration": {"count": 2}, "overlap_count": 0, "transforms": [{"name": "Rescale"}]},
        "run": {"packages": {"onnx": "1"}, "platform": {"cpu": "c", "system": "s"}, "command": ["quantize"]},
    }


SEEDS: dict[str, Callable[[], Mapping[str, str | bytes]]] = {
    "configuration": configuration,
    "image_list": image_list,
    "labels": labels,
    "records": records,
}
