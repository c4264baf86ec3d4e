"""Whether the integer products of a model saturate on this CPU, and whether they can on others.

On CPUs without VNNI two neighbouring products are added in int16 with saturation (`quantize.portability`).
What an optimized session computes is compared with the same session in ONNX Runtime's unoptimized arithmetic
for int8 weights (`EXACT_KERNELS`): the same graph, the same rounding, and products that are added in int32.
Any difference of the scores is saturation. A session without graph optimizations is no such reference: in
QOperator format it runs the same saturating kernels (measured on an emulated AVX2 CPU, with a model of
weights 127: scores off by 23 % rms, and equal to the bit with all optimizations and without any), and in QDQ
format it computes in floats, which round differently.

What has not saturated on some images here may do so elsewhere; the weights alone say where it is possible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import InferenceSession

from quantize.kernels import optimized_model
from quantize.loading import read_model
from quantize.metrics import Equality
from quantize.portability import EXACT_KERNELS, PairBound, check_pairs
from quantize.session import make_session, outputs

# Saturation that matters shows on nearly every image.
SATURATION_IMAGES = 32

# So many names fit a line.
_LISTED = 3


@dataclass(frozen=True)
class Saturation:
    """What was found for one model.

    Attributes:
        equality: its scores as it runs here, against those of exact kernels, bit for bit.
        bound: which of its operators can saturate on CPUs without VNNI.
    """

    equality: Equality
    bound: PairBound

    @property
    def here(self) -> bool:
        """Whether products saturated on this CPU."""
        return not self.equality.bit_equal

    def lines(self, name: str) -> list[str]:
        """What there is to tell; nothing of a model that is exact everywhere."""
        found = [here_line(name, self.equality)] if self.here else []
        if not self.bound.holds:
            unbounded = self.bound.unbounded
            names = ", ".join(unbounded[:_LISTED]) + (", ..." if len(unbounded) > _LISTED else "")
            found.append(
                f"{name}: weights of {len(unbounded)} of {self.bound.checked} dense operators can saturate "
                f"on CPUs without VNNI ({names})"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "on_this_cpu": self.here,
            "compared_images": self.equality.images,
            "equal_images": self.equality.equal_images,
            "max_abs_difference": self.equality.max_abs_difference,
            "dense_operators": self.bound.checked,
            "can_saturate_without_vnni": list(self.bound.unbounded),
        }


def here_line(name: str, equality: Equality) -> str:
    """The sentence about a model whose products saturated."""
    return (
        f"{name}: integer products saturate on this CPU, which has no VNNI: scores differ from exact "
        f"arithmetic on {equality.images - equality.equal_images} of {equality.images} images, by at most "
        f"{equality.max_abs_difference:.6g}"
    )


def pair_bound(path: Path) -> PairBound:
    """Of what the file says, and of what ONNX Runtime makes of it: it may quantize weights by itself."""
    model = read_model(path)
    return bound_of(model, optimized_model(model, label=str(path)))


def bound_of(model: onnx.ModelProto, optimized: onnx.ModelProto) -> PairBound:
    """The same of a model that was read, and of what ONNX Runtime has made of it."""
    written, fused = check_pairs(model), check_pairs(optimized)
    return replace(
        written,
        checked=max(written.checked, fused.checked),
        unbounded=written.unbounded or fused.unbounded,
    )


def exact_session(path: Path, *, threads: int = 1) -> InferenceSession:
    """A session whose integer products cannot saturate; slow on CPUs without VNNI, as usual on others."""
    return make_session(path, threads=threads, config_entries=EXACT_KERNELS)


def find_saturation(path: Path, images: npt.NDArray[np.float32], *, threads: int = 1) -> Saturation | None:
    """Runs a model as it is and exactly, on a few images.

    Args:
        path: the file.
        images: [N, ...] float32; the first `SATURATION_IMAGES` are used.
        threads: of the sessions.

    Returns:
        None for a model without int8 weights that meet uint8 activations.

    Raises:
        EngineError: ONNX Runtime cannot run it.
    """
    bound = pair_bound(path)
    if not bound.checked:
        return None
    few = images[:SATURATION_IMAGES]
    found, exact = (
        outputs(session, few, model=path.name)
        for session in (make_session(path, threads=threads), exact_session(path, threads=threads))
    )
    return Saturation(Equality.from_logits(found, exact), bound)
