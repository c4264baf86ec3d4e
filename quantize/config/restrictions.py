"""The sections `model_wise`, `optype_wise` and `op_wise`: which of their choices the engine can follow.

A choice is a list (or one value) of options that the engine may use. Those that no trial could differ by
(asymmetric uint8 activations, symmetric int8 weights; what the target takes) are honoured by doing nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from quantize.config.fields import plain
from quantize.target import TARGETS

__all__ = ["followed", "keeps_fp32", "unused_restrictions"]

Options = Mapping[str, Mapping[str, frozenset[str]]]

# Part → field → the options that can be followed. Every integer kernel of a CPU target takes uint8
# activations and int8 weights, so other types and schemes would be slow or saturate.
_FOLLOWED: Options = {
    "activation": {
        "dtype": frozenset({"uint8", "fp32"}),
        "scheme": frozenset({"asym"}),
        "granularity": frozenset({"per_tensor"}),
        "algorithm": frozenset(
            {"auto", "quantile", "median", "mean", "quantile90", "minmax", "mse", "percentile", "kl"}
        ),
    },
    "weight": {
        "dtype": frozenset({"int8", "fp32"}),
        "scheme": frozenset({"sym"}),
        "granularity": frozenset({"per_channel", "per_tensor"}),
        "algorithm": frozenset({"minmax"}),
    },
}


# What takes the place of dtype and scheme where the target's activations are signed.
_SIGNED = {"dtype": frozenset({"int8", "fp32"}), "scheme": frozenset({"sym"})}


def keeps_fp32(settings: Mapping[str, Any]) -> bool:
    """Whether an entry of `op_wise` or `optype_wise` asks for fp32 and nothing else."""
    choices = [choice.get("dtype") for choice in settings.values() if choice]
    return any(dtype is not None and plain(dtype) in ("fp32", ["fp32"]) for dtype in choices)


def followed(settings: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Part, field and options of the choices that the engine has to be told of."""
    for part, choices in settings.items():
        for field, wanted in (choices or {}).items():
            options = [str(option) for option in (wanted if isinstance(wanted, list | tuple) else [wanted])]
            possible = _FOLLOWED.get(part, {}).get(field, frozenset())
            if field in ("algorithm", "granularity") and set(options) <= possible:
                yield part, field, options


def unused_restrictions(quantization: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the choices that cannot be followed, in written order.

    Args:
        quantization: section `quantization` of a configuration that passed validation, as it was written.
    """
    target = TARGETS[quantization.get("target") or "portable"]
    changes = _SIGNED if target.signed_activations else {}
    possible = {**_FOLLOWED, "activation": {**_FOLLOWED["activation"], **changes}}
    named = list(_unfollowed(quantization.get("model_wise") or {}, "quantization.model_wise", possible))
    for section in ("optype_wise", "op_wise"):
        for pattern, settings in (quantization.get(section) or {}).items():
            named += _unfollowed(settings, f"quantization.{section}.{pattern}", possible)
    return tuple(named)


def _unfollowed(settings: Mapping[str, Any], prefix: str, possible: Options) -> Iterator[str]:
    for part, choices in settings.items():
        for field, wanted in (choices or {}).items():
            options = wanted if isinstance(wanted, list | tuple) else [wanted]
            if not set(map(str, options)) <= possible.get(part, {}).get(field, frozenset()):
                yield f"{prefix}.{part}.{field}"
