"""What finished work depends on, and where it is kept: in the cache, beside the pixels and the fp32 results.

There and not in the folder of the results or the workspace, because it is of use to any run of the same
settings, wherever that writes, takes its room from the same limit, and goes when nobody has used it for
longest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.dataloader import DataLoader
from calibration.store import Store
from quantize.config import Config
from quantize.data import Data
from quantize.files import sha256_of_file
from quantize.model import serialize
from quantize.packing import Array, Json
from quantize.processor import cpu
from quantize.ranges.collect import Extremes, Histograms
from quantize.report.environment import package_versions
from quantize.source import Source
from quantize.version import VERSION
from quantize.work import Codec, Work

# Besides those that a report names: they choose the kernels of linear algebra and of images.
_PACKAGES = ("opencv-python", "scikit-learn", "scipy", "threadpoolctl")
_OURS = ("calibration", "quantize")


@dataclass(frozen=True)
class Digests:
    """What tells the images of each role from others: names, labels and contents, hashed.

    Attributes:
        calibration, selection, evaluation: 64 hexadecimal digits each; None where there are no such images.
    """

    calibration: str
    selection: str | None
    evaluation: str

    @classmethod
    def of(cls, data: Data) -> Digests:
        """Reads every image file once."""
        return cls(
            data.calibration.images.digest(),
            None if data.judging is None else data.judging.images.digest(),
            data.evaluation.images.digest(),
        )


def open_work(
    config: Config,
    source: Source,
    data: Data,
    digests: Digests,
    store: Store | None,
    *,
    start_from: Path | None = None,
) -> Work:
    """The finished work of a run's settings.

    Args:
        config: says whether what is there may be used.
        source: the model.
        data: the images.
        digests: of the images.
        store: the cache; None keeps nothing.
        start_from: as for `tune`.
    """
    context = {
        "ours": [VERSION, _own_digest()],
        "packages": package_versions() | package_versions(_PACKAGES),
        "python": sys.version,
        # Kernels may round differently.
        "processor": cpu(),
        "model": source.sha256,
        "prepared": _model_digest(source.prepared),
        "signature": dataclasses.asdict(source.signature),
        "start_from": None if start_from is None else sha256_of_file(start_from),
        "target": config.target.name,
        "refine": config.refine.model_dump(mode="json"),
        "seed": config.seed,
        "abandon_confidence": config.tuning.exit_policy.abandon_confidence,
        "images": dataclasses.asdict(digests),
        "loaders": [None if one is None else _loader(one) for one in _loaders(data)],
    }
    return Work(store, context, reuse=config.tuning.resume)


def _loaders(data: Data) -> tuple[DataLoader | None, ...]:
    return data.calibration, data.judging, data.evaluation


def _loader(loader: DataLoader) -> list[Any]:
    return [loader.pipeline.to_json(), loader.exif_orientation, loader.batch_size]


def _model_digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(serialize(model)).hexdigest()


def _own_digest() -> str:
    """Of our own code: a version number does not change with every line that somebody changes."""
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for package in _OURS:
        for path in sorted((root / package).rglob("*.py")):
            total.update(f"{path.relative_to(root).as_posix()} {sha256_of_file(path)}\n".encode())
    return total.hexdigest()


def _extremes_out(extremes: Extremes) -> tuple[Json, Mapping[str, Array]]:
    names, by_channel = list(extremes.lows), list(extremes.channel_lows)
    tables = {
        "lows": np.array([extremes.lows[name] for name in names], np.float32),
        "highs": np.array([extremes.highs[name] for name in names], np.float32),
    }
    for place, name in enumerate(by_channel):
        ends = [extremes.channel_lows[name], extremes.channel_highs[name]]
        tables[f"channels{place}"] = np.array(ends, np.float32)
    return {"tensors": names, "by_channel": by_channel}, tables


def _extremes_in(values: Json, arrays: Mapping[str, Array]) -> Extremes:
    names, by_channel = values["tensors"], values["by_channel"]
    ends = {name: arrays[f"channels{place}"] for place, name in enumerate(by_channel)}
    return Extremes(
        lows=dict(zip(names, arrays["lows"], strict=True)),
        highs=dict(zip(names, arrays["highs"], strict=True)),
        channel_lows={name: pair[0] for name, pair in ends.items()},
        channel_highs={name: pair[1] for name, pair in ends.items()},
    )


def _histograms_out(histograms: Histograms) -> tuple[Json, Mapping[str, Array]]:
    return {"tensors": list(histograms.counts)}, {
        "counts": np.array(list(histograms.counts.values()), np.int64)
    }


def _histograms_in(values: Json, arrays: Mapping[str, Array]) -> Histograms:
    return Histograms(dict(zip(values["tensors"], arrays["counts"], strict=True)))


EXTREMES: Codec[Extremes] = Codec(_extremes_out, _extremes_in)
HISTOGRAMS: Codec[Histograms] = Codec(_histograms_out, _histograms_in)
