"""What refinement did, as JSON values and as lines for a person."""

from __future__ import annotations

from typing import Any

from quantize.refine.judge import Score
from quantize.refine.report import RefineReport

Json = dict[str, Any]


def refinement_json(report: RefineReport | None) -> Json | None:
    """The section `tuning.refinement` of `report.json`; None where nothing was refined."""
    if report is None:
        return None
    return {
        "effort": report.effort,
        "calibration_images": report.calibration_images,
        "selection_images": report.selection_images,
        "rule": report.rule,
        "rules_kl_nats": dict(report.rules),
        "candidates_kl_nats": dict(report.candidates),
        "candidates_calibration_kl_nats": dict(report.candidates_learnt),
        "passes": [
            {
                "name": one.name,
                "status": one.status,
                "what": one.what,
                "before": _score(one.before),
                "after": _score(one.after),
            }
            for one in report.passes
        ],
        "before": _score(report.before),
        "after": _score(report.after),
        "duration_s": report.duration_s,
    }


def refinement_lines(report: RefineReport) -> list[str]:
    """One line for each pass, and one for the whole."""
    lines = [
        f"  {one.name:8s} {one.status}: {one.what}"
        + ("" if one.status == "skipped" else f" (KL {one.before.kl:.4f} -> {one.after.kl:.4f})")
        for one in report.passes
    ]
    whole = (
        f"refined with {report.calibration_images} images, judged on {report.selection_images} others: KL "
        f"{report.before.kl:.4f} -> {report.after.kl:.4f}, agreement {report.before.agreement:.1%} -> "
        f"{report.after.agreement:.1%}"
    )
    return [*lines, whole]


def _score(score: Score) -> Json:
    return {"kl_nats": score.kl, "agreement_fraction": score.agreement}
