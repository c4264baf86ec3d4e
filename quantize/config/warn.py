"""What a configuration allows but probably does not mean."""

from __future__ import annotations

from collections.abc import Sequence

from quantize.config.fields import plain
from quantize.config.schema import Settings
from quantize.target import TARGETS

__all__ = ["warnings_about"]


def warnings_about(settings: Settings, unused: Sequence[str]) -> tuple[str, ...]:
    """Sentences for the user, each naming the fields it is about.

    Args:
        settings: the validated configuration.
        unused: dotted names of the fields that have no effect.
    """
    found = [
        *_differing_transforms(settings),
        *_sizes(settings),
        *_formats(settings),
        *_threads(settings),
    ]
    if unused:
        found.append(f"accepted but without effect here: {', '.join(unused)}")
    return tuple(found)


def _differing_transforms(settings: Settings) -> list[str]:
    accuracy = settings.evaluation.accuracy.dataloader.transform
    others = {
        "quantization.calibration": settings.quantization.calibration.dataloader.transform,
        "evaluation.performance": settings.evaluation.performance.dataloader.transform,
    }
    # Order matters, and equality of mappings would not see it.
    return [
        f"{name}.dataloader.transform and evaluation.accuracy.dataloader.transform differ: "
        "the model is normally fed in one way only"
        for name, other in others.items()
        if None not in (accuracy, other) and list(plain(other).items()) != list(plain(accuracy).items())
    ]


def _sizes(settings: Settings) -> list[str]:
    sizes = settings.quantization.calibration.sampling_size
    if len(sizes) == 1:
        return []
    return [
        f"quantization.calibration.sampling_size lists {len(sizes)} sizes: only the first, {sizes[0]}, counts"
    ]


def _formats(settings: Settings) -> list[str]:
    quantization = settings.quantization
    formats = TARGETS[quantization.target].formats
    if quantization.quant_format != "both" or len(formats) > 1:
        return []
    return [f"target {quantization.target} reads {formats[0]} only: no other format is written"]


def _threads(settings: Settings) -> list[str]:
    layout = settings.evaluation.performance.configs
    threads, cores = layout.intra_num_of_threads, layout.cores_per_instance
    if threads is None or cores is None or threads == cores:
        return []
    return [
        f"evaluation.performance.configs: intra_num_of_threads ({threads}) and cores_per_instance ({cores}) "
        f"differ: {threads} threads are used"
    ]
