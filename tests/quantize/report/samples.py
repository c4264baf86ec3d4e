"""Reports made of numbers, tame and hostile, without running a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from quantize.criterion import Criterion
from quantize.diagnose.changes import ChangedImage, Changes, Guess
from quantize.diagnose.diagnosis import Diagnosis, Sensitivity, Signal
from quantize.diagnose.pairing import TensorPair
from quantize.diagnose.signal import TensorSignal, ValueHistogram
from quantize.diagnose.thumbnails import Thumbnail
from quantize.operators import FloatOperator
from quantize.report import ImageSetFacts, RunContext, build_report
from quantize.report.environment import package_versions, platform_facts
from quantize.scales import ActivationScale

# One red pixel.
PIXEL = "data:image/gif;base64,R0lGODlhAQABAPAAAP8AAP///yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="

# Names as an attacker would choose them: mark-up, quotes, ends of sections, formulas, templates, characters
# that move the cursor, turn the writing or are half of one, and bytes that are no UTF-8.
HOSTILE = [
    "<script>document.title='owned'</script>",
    "</style><img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=alert(1)>",
    "a\nb\r\n# heading\n\n| cell | cell |\n![x](http://127.0.0.1:9/x)",
    "`code` ``more`` <!-- ]]> --> {{ 7 * 7 }} {% raw %}",
    "$\\frac{1}{0}$ $x$ \\n",
    "\x1b[31mred\x07\x00\x7f \u202eturned\u2028line",
    b"caf\xe9 \xff.jpg".decode("utf-8", "surrogateescape"),
    "[link](javascript:alert(1)) www.example.org http://example.org a@example.org",
    "名前 🐱 ümläut",
    "x" * 5000,
    "",
]


def signal(names: list[str]) -> Signal:
    tensors = [
        TensorSignal(
            TensorPair(f"{name} tensor", f"{name}_q", ActivationScale(0.02, 10), name, "Conv"),
            sqnr_db=math.inf if place == 0 else 40.0 - place,
            own_sqnr_db=math.nan if place == 1 else 45.0 - place,
            low=-1.0,
            high=6.0 + place,
            saturated_fraction=0.001 * place,
        )
        for place, name in enumerate(names)
    ]
    histograms = [
        ValueHistogram(one.pair.tensor, one.low, one.high, tuple(range(64))) for one in tensors[-6:]
    ]
    return Signal(16, tuple(tensors), tuple(histograms))


def diagnosis(names: list[str]) -> Diagnosis:
    kinds = ("lost", "won", "other")
    shown = tuple(
        ChangedImage(
            place,
            kinds[place % 3],  # type: ignore[arg-type]  # it takes literals
            place % 5,
            0.5,
            tuple(Guess(k, 0.5 / 2**k) for k in range(5)),
            tuple(Guess(4 - k, 0.5 / 2**k) for k in range(5)),
        )
        for place in range(min(len(names), 24))
    )
    return Diagnosis(
        signal=signal(names),
        sensitivity=Sensitivity({name: 0.1 / (1 + place) for place, name in enumerate(names)}, "Measured."),
        changes=Changes({"lost": 10, "won": 6, "other": 30}, shown),
        changes_format="QOperator",
        files={place: names[place] for place in range(len(shown))},
        names=dict(enumerate(names)),
        notes=(f"a note on {names[0]}",),
    )


def context(names: list[str], *, looked: bool = True) -> RunContext:
    found = diagnosis(names) if looked else None
    return RunContext(
        criterion=Criterion(),
        command=["python", "-m", "quantize", "tune", *names],
        configuration={"a": names, "b": {name: 1 for name in names}},
        seed=9,
        calibration=ImageSetFacts(100, "a" * 64, names[0]),
        evaluation=ImageSetFacts(400, "b" * 64, names[-1]),
        overlap_images=0,
        fp32_operators=[
            *(FloatOperator(name, "Conv", f"because of {name}", fallback=True) for name in names),
            *(FloatOperator(name, name, "no kernel") for name in names),
        ],
        stopped_by="criterion",
        sensitivity_nats=found.sensitivity.saved_nats if found else {},
        input_model=f"/models/{names[0]}",
        input_model_sha256="c" * 64,
        packages=package_versions(),
        platform={**platform_facts(), "cpu": names[1]},
        stages_s={"tune": 12.0},
        peak_memory_bytes=10**9,
        started_at="2026-01-02T03:04:05Z",
        transforms=[{"CenterCrop": {"size": 224}}],
        warnings=[f"beware of {name}" for name in names],
        diagnosis=found,
    )


def thumbnails(count: int) -> dict[int, Thumbnail]:
    """None for every fourth image."""
    return {place: Thumbnail(PIXEL, tiny=place % 2 == 0) for place in range(count) if place % 4 != 3}


def report(verification: Any, names: list[str], *, looked: bool = True) -> dict[str, Any]:
    return build_report(verification, context(names, looked=looked))


TAME = [f"block_{k}/conv" for k in range(30)]
PATH = Path("m.onnx")
