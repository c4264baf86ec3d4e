"""What the report tells about ranges of single tensors."""

from __future__ import annotations

from collections.abc import Mapping

from quantize.refine.judge import Score
from quantize.refine.options import RefineOptions
from quantize.refine.report import PassReport
from quantize.refine.scaling import multipliers_in_words
from quantize.refine.variants import Outcome, Variant


def scaling_report(
    options: RefineOptions,
    multipliers: Mapping[str, float],
    results: Mapping[Variant, Outcome],
    chosen: Variant,
    plain: Score,
) -> PassReport:
    """What became of the multipliers.

    Args:
        options: what was wanted.
        multipliers: that were found.
        results: the variants that were refined.
        chosen: the one that was taken.
        plain: the score of its rule, without multipliers.
    """
    why = None
    if not options.scaling:
        why = "switched off"
    elif options.effort != "full":
        why = "only with full effort"
    elif not multipliers:
        why = "no tensor gains by another range"
    elif not any(variant.scaled for variant in results):
        why = "it did not help the first model"
    if why is not None:
        return PassReport("scaling", "skipped", why, plain, plain)
    words = multipliers_in_words(multipliers)
    tried = results[next(variant for variant in results if variant.scaled)]
    if chosen.scaled:
        return PassReport("scaling", "applied", words, plain, tried.passes[0].before)
    least = results[chosen]
    words += (
        f"; after all passes KL {tried.learnt.mean():.3g} instead of {least.learnt.mean():.3g} on "
        f"calibration images, {tried.score.kl:.3g} instead of {least.score.kl:.3g} on the others"
    )
    return PassReport("scaling", "taken back", words, plain, tried.passes[0].before)
