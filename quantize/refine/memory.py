"""How results of the refinement are kept: as JSON values and arrays, and back, equal in every bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantize.packing import Array, Json
from quantize.refine.judge import Score
from quantize.refine.network import Draft
from quantize.refine.report import PassReport, RefineReport
from quantize.refine.variants import Outcome, Variant
from quantize.scales import ActivationScale
from quantize.weights import Parameters
from quantize.work import Codec

_Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Refined:
    """What refining one choice of operators came to.

    Attributes:
        draft: what is written.
        report: what was done.
        chosen: the variant that it is.
        multipliers: of the ranges of single tensors.
    """

    draft: Draft
    report: RefineReport
    chosen: Variant
    multipliers: Mapping[str, float]


def _draft_out(draft: Draft) -> tuple[Json, dict[str, Array]]:
    arrays: dict[str, Array] = {}
    for number, factor in enumerate(draft.factors.values()):
        arrays[f"factors {number}"] = factor
    parameters = []
    for number, (name, one) in enumerate(draft.parameters.items()):
        parameters.append([name, one.axis, one.bias is not None])
        arrays |= {
            f"weights {number}": one.weights,
            f"scale {number}": one.scale,
            f"bias scale {number}": one.bias_scale,
        }
        if one.bias is not None:
            arrays[f"bias {number}"] = one.bias
    values = {
        "operators": dict(draft.operators),
        "scales": {t: [s.scale, s.zero_point, s.signed] for t, s in draft.scales.items()},
        "factors": list(draft.factors),
        "parameters": parameters,
        "padding": dict(draft.padding),
    }
    return values, arrays


def _draft_in(values: Json, arrays: _Arrays) -> Draft:
    parameters = {
        name: Parameters(
            weights=arrays[f"weights {number}"],
            scale=arrays[f"scale {number}"],
            axis=axis,
            bias=arrays[f"bias {number}"] if biased else None,
            bias_scale=arrays[f"bias scale {number}"],
        )
        for number, (name, axis, biased) in enumerate(values["parameters"])
    }
    return Draft(
        operators=values["operators"],
        scales={t: ActivationScale(*parts) for t, parts in values["scales"].items()},
        factors={tensor: arrays[f"factors {number}"] for number, tensor in enumerate(values["factors"])},
        parameters=parameters,
        padding=values["padding"],
    )


def _score_out(score: Score) -> list[Any]:
    return [score.kl, score.agreement, score.divergences.tolist()]


def _score_in(values: list[Any]) -> Score:
    kl, agreement, by_image = values
    return Score(float(kl), float(agreement), np.array(by_image, np.float64))


def _passes_out(passes: tuple[PassReport, ...]) -> list[Any]:
    return [[one.name, one.status, one.what, _score_out(one.before), _score_out(one.after)] for one in passes]


def _passes_in(values: list[Any]) -> tuple[PassReport, ...]:
    return tuple(
        PassReport(name, status, what, _score_in(before), _score_in(after))
        for name, status, what, before, after in values
    )


def variant_values(variant: Variant) -> list[Any]:
    """A variant as JSON values."""
    return [variant.rule, variant.exponent, variant.scaled]


def _outcome_out(outcome: Outcome) -> tuple[Json, _Arrays]:
    values, arrays = _draft_out(outcome.draft)
    told = {"draft": values, "score": _score_out(outcome.score), "passes": _passes_out(outcome.passes)}
    return told, {**arrays, "learnt": outcome.learnt}


def _outcome_in(values: Json, arrays: _Arrays) -> Outcome:
    return Outcome(
        _draft_in(values["draft"], arrays),
        _score_in(values["score"]),
        _passes_in(values["passes"]),
        arrays["learnt"],
    )


def _refined_out(refined: Refined) -> tuple[Json, _Arrays]:
    values, arrays = _draft_out(refined.draft)
    report = refined.report
    told = {
        "effort": report.effort,
        "calibration_images": report.calibration_images,
        "selection_images": report.selection_images,
        "rule": report.rule,
        "rules": dict(report.rules),
        "candidates": dict(report.candidates),
        "candidates_learnt": dict(report.candidates_learnt),
        "duration_s": report.duration_s,
    }
    return {
        "draft": values,
        "told": told,
        "passes": _passes_out(report.passes),
        "before": _score_out(report.before),
        "after": _score_out(report.after),
        "chosen": variant_values(refined.chosen),
        "multipliers": dict(refined.multipliers),
    }, arrays


def _refined_in(values: Json, arrays: _Arrays) -> Refined:
    report = RefineReport(
        passes=_passes_in(values["passes"]),
        before=_score_in(values["before"]),
        after=_score_in(values["after"]),
        **values["told"],
    )
    return Refined(
        _draft_in(values["draft"], arrays), report, Variant(*values["chosen"]), values["multipliers"]
    )


OUTCOME: Codec[Outcome] = Codec(_outcome_out, _outcome_in)
REFINED: Codec[Refined] = Codec(_refined_out, _refined_in)
# Name -> number.
NUMBERS: Codec[Mapping[str, float]] = Codec(lambda numbers: (dict(numbers), {}), lambda values, _: values)
