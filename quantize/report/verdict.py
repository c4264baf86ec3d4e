"""The judgement over a verification: passed or not, and one sentence that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantize.criterion import Criterion
from quantize.kernels import FLOAT_WEIGHTED
from quantize.operators import FloatOperator
from quantize.statistics import Interval
from quantize.target import Format
from quantize.verify import Artefact, Verification, accuracy

# So many names fit a line; the report lists them all.
_NAMES_SHOWN = 3
_CURE_LOSS = "more --calibration_samples{more}, or a larger --tolerable_loss"
# What gives the search more room, by what ended it; one that is exhausted has no use for room.
_CURE_SEARCH = {"trials": ", more --max_trials", "timeout": ", a longer --timeout"}
_CURE_INEXACT = "--target=vnni or arm if it only runs there; otherwise report this as a fault of the pipeline"
_CURE_FLOAT = "see models.int8.*.kernels in report.json for what stayed in float"


@dataclass(frozen=True)
class Verdict:
    """Whether the artefacts may be shipped; `sentence` starts with `PASS: ` or `FAIL: `."""

    passed: bool
    sentence: str


def judge(
    verification: Verification,
    criterion: Criterion,
    fp32_operators: Sequence[FloatOperator] = (),
    *,
    stopped_by: str = "",
) -> Verdict:
    """Hold every artefact against the criterion, and against the promise that integers do the work.

    An artefact fails if it loses more than tolerated, if nothing in it runs in integers, or if more
    convolutions and matrix products run in float than were left so for a stated reason: accuracy that was
    kept by quietly not quantizing is no success. It also fails if its target promises the same numbers on
    every CPU and it does not keep that.

    Args:
        verification: what was measured.
        criterion: what may be lost.
        fp32_operators: operators left in fp32 on purpose, with the reason.
        stopped_by: why the search ended, as in `RunContext`; decides what would give it more room.
    """
    explained = sum(operator.op_type in FLOAT_WEIGHTED for operator in fp32_operators)
    fallbacks = sum(operator.fallback for operator in fp32_operators)
    artefacts = verification.artefacts
    lost = {name: _lost(artefact, verification, criterion) for name, artefact in artefacts.items()}
    floating = {name: _float(artefact, explained) for name, artefact in artefacts.items()}
    inexact = {name: _inexact(artefact, verification) for name, artefact in artefacts.items()}
    problems = [*_grouped(lost), *_grouped(floating), *_grouped(inexact)]
    if not problems:
        return Verdict(True, "PASS: " + _praise(verification, criterion, fallbacks))
    if stopped_by == "timeout":
        problems.append("the search was stopped by --timeout")
    room = _CURE_LOSS.format(more=_CURE_SEARCH.get(stopped_by, ""))
    cure = room if any(lost.values()) else _CURE_FLOAT if any(floating.values()) else _CURE_INEXACT
    return Verdict(False, f"FAIL: {'; '.join(problems)}. Next: {cure}.")


def criterion_interval(artefact: Artefact, criterion: Criterion) -> Interval:
    """The decline as the criterion measures it, with its 95 % interval."""
    decline = artefact.decline(criterion.metric)
    return decline.relative if criterion.kind == "relative" else decline.absolute


def percent(fraction: float, kind: str, digits: int = 2) -> str:
    """A decline in words: relative ones in %, absolute ones in percentage points (pp)."""
    return f"{100 * fraction:.{digits}f} {'%' if kind == 'relative' else 'pp'}"


def _grouped(problems: Mapping[Format, str]) -> Iterator[str]:
    """`{A: x, B: x, C: y, D: ""}` → `A and B: x`, `C: y`."""
    for text in dict.fromkeys(problems.values()):
        if text:
            yield f"{' and '.join(name for name, found in problems.items() if found == text)}: {text}"


def _lost(artefact: Artefact, verification: Verification, criterion: Criterion) -> str:
    baseline = accuracy(verification.fp32, criterion.metric)
    value = accuracy(artefact.facts, criterion.metric)
    if criterion.met(baseline, value):
        return ""
    decline = criterion.decline(baseline, value)
    # Two digits, unless they hide the difference ("1.00 % > 1.00 %").
    digits = next((n for n in (2, 4, 6) if round(100 * (decline - criterion.tolerance), n) > 0), 9)
    lost, allowed = (percent(share, criterion.kind, digits) for share in (decline, criterion.tolerance))
    return f"{criterion.metric_label} declines {lost} > {allowed} ({baseline:.2%} -> {value:.2%})"


def _float(artefact: Artefact, explained: int) -> str:
    coverage = artefact.facts.judged_coverage
    stray = coverage.float_weighted_operators
    if not coverage.integer_weighted:
        return "no convolution or matrix product runs in integers"
    if len(stray) <= explained:
        return ""
    names = ", ".join(stray[:_NAMES_SHOWN]) + (", ..." if len(stray) > _NAMES_SHOWN else "")
    reasons = f", {explained} of them with a reason" if explained else " without a reason"
    counted = f"{len(stray)} of {coverage.weighted} convolutions and matrix products"
    return f"{counted} run in float{reasons} ({names})"


def _inexact(artefact: Artefact, verification: Verification) -> str:
    """What speaks against the same numbers on every CPU, where the target promises them."""
    if not verification.target.exact:
        return ""
    equality, bound = artefact.portability.equality, artefact.portability.bound
    found = []
    if not equality.bit_equal:
        found.append(
            f"logits differ from those of exact kernels on {equality.images - equality.equal_images} of "
            f"{equality.images} images, by at most {equality.max_abs_difference:.6g}"
        )
    if not bound.holds:
        names = ", ".join(bound.unbounded[:_NAMES_SHOWN])
        names += ", ..." if len(bound.unbounded) > _NAMES_SHOWN else ""
        found.append(
            f"weights of {len(bound.unbounded)} of {bound.checked} dense operators can saturate on CPUs "
            f"without VNNI ({names})"
        )
    return " and ".join(found)


def _praise(verification: Verification, criterion: Criterion, left: int) -> str:
    declines = {
        name: criterion_interval(artefact, criterion) for name, artefact in verification.artefacts.items()
    }
    losses = _grouped({name: _loss(interval, criterion) for name, interval in declines.items()})
    allowed = percent(criterion.tolerance, criterion.kind)
    sentence = f"{'; '.join(losses)} (tolerated {allowed}) on {verification.images} images"
    high = max(interval.high for interval in declines.values())
    if high > criterion.tolerance:
        sentence += f"; 95 % interval up to {percent(high, criterion.kind)}, more images would narrow it"
    few = min(artefact.facts.judged_coverage.integer_weighted for artefact in verification.artefacts.values())
    total = max(artefact.facts.judged_coverage.weighted for artefact in verification.artefacts.values())
    if 2 * few < total:
        sentence += (
            f"; only {few} of {total} convolutions and matrix products are integers, which gains little"
        )
    if left:
        sentence += f"; {left} operator{'s' if left > 1 else ''} left in fp32"
    return sentence + "."


def _loss(interval: Interval, criterion: Criterion) -> str:
    if interval.estimate > 0:
        return f"{criterion.metric_label} declines {percent(interval.estimate, criterion.kind)}"
    return f"{criterion.metric_label} does not decline"
