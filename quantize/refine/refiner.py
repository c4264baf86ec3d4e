"""Refines integer models of one network: measures once, tries what the effort allows, keeps what helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.parallel import AheadOfTime, in_order
from quantize.refine.equalize import Channels, find_channels
from quantize.refine.judge import Judge, Score
from quantize.refine.memory import NUMBERS, OUTCOME, REFINED, Refined, variant_values
from quantize.refine.network import Draft, Network
from quantize.refine.observe import Observations, Watched, observe
from quantize.refine.options import AUTO, RefineOptions
from quantize.refine.parts import Parts
from quantize.refine.passes import Material, run_passes
from quantize.refine.ranges import Ranges, draft_with, rules_for
from quantize.refine.ranking import ranked
from quantize.refine.report import PassReport, RefineReport
from quantize.refine.scaling import find_multipliers, scaled
from quantize.refine.told import scaling_report
from quantize.refine.variants import Outcome, Variant, best_of
from quantize.refine.weights import WeightCache, one_blas_thread, refine_weights, rounded_weights
from quantize.work import Work

Floats = npt.NDArray[np.float32]

# How many rules full effort carries through all passes: the plain models' ranking is not quite that of the
# refined ones, but the best of them has always been among the first three (DESIGN, "Choosing automatically").
_FULL_CANDIDATES = 3

# Towards dense operators; a half shares the difficulty evenly (SmoothQuant's default).
_DENSE_EXPONENT = 0.5


class Refiner:
    """Refines the integer models that the engine proposes.

    Args:
        network: the fp32 network.
        table: measured ranges of its tensors.
        calibration: images to learn from, one array each, as the model takes them.
        judge: of drafts of the network, by images in neither calibration nor evaluation.
        options: what is wanted.
        threads: how many may work at once; results do not depend on it.
        first_rule: a rule of `table` that is tried before the known ones, and that the unrefined model has.
        done: what was done to the network before.
        work: where what is finished is kept.
    """

    def __init__(
        self,
        network: Network,
        table: Ranges,
        calibration: Sequence[Floats],
        judge: Judge,
        options: RefineOptions,
        *,
        threads: int,
        first_rule: str | None = None,
        done: PassReport | None = None,
        work: Work | None = None,
    ) -> None:
        self._network, self._table, self._options, self._threads = network, table, options, threads
        self._images = calibration
        self._first_rules = () if first_rule is None else (first_rule,)
        self._cache: WeightCache = {}
        self._judge, self._done = judge, () if done is None else (done,)
        self._settled: Variant | None = None
        self._multipliers: Mapping[str, float] = {}
        self._best: Draft | None = None
        self._work = Work.forgotten() if work is None else work
        # What was refined first, which later results depend on.
        self._first: Mapping[str, Any] | None = None

    @property
    def chooses_ranges(self) -> bool:
        """Whether rules for ranges are left to the refinement."""
        return self._options.ranges == AUTO

    def refine(self, operators: Mapping[str, bool], rule_of: Mapping[str, str]) -> tuple[Draft, RefineReport]:
        """Refines one choice of integer operators.

        The first call chooses the rule for ranges; later ones, with some operators back in fp32, keep it.

        Args:
            operators: integer operators -> whether they have one weight scale per output channel.
            rule_of: activation tensor -> rule for its range, or "auto".
        """
        choice = {"operators": dict(operators), "rules": dict(rule_of)}
        refined = self._work.done(
            "refinement",
            {**choice, "first": self._first},
            partial(self._refined, operators, rule_of),
            REFINED,
        )
        if self._settled is None:
            self._settled, self._best, self._first = refined.chosen, refined.draft, choice
            self._multipliers = refined.multipliers
        return refined.draft, refined.report

    def _refined(self, operators: Mapping[str, bool], rule_of: Mapping[str, str]) -> Refined:
        """As `refine`, which sets what later calls keep."""
        began_s = self._work.clock()
        default = self._rules(rule_of)[0] if self.chooses_ranges else self._options.ranges
        rules: Mapping[str, float] = {}
        if self._settled is None and AUTO in rule_of.values() and self.chooses_ranges:
            rules = self._ranked(operators, rule_of)
        start = self._plain(operators, rule_of, default)
        before = self._judge(start)
        done = tuple(_unscored(one, before) for one in self._done)
        results = self._outcomes(operators, rule_of, list(rules) or [default])
        chosen = best_of(results)
        draft, score, passes = results[chosen].draft, results[chosen].score, results[chosen].passes
        plain = passes[0].before if passes else score
        if chosen.scaled:
            plain = self._judge(self._plain(operators, rule_of, chosen.rule))
        ranges = _ranges_report(rules, chosen.rule, before, plain)
        told = scaling_report(self._options, self._multipliers, results, chosen, plain)
        passes = (*done, ranges, told, *passes)
        if before.beats(score):
            draft, score = start, before
            passes = (*done, *map(_taken_back, passes[len(done) :]))
        report = RefineReport(
            effort=self._options.effort,
            calibration_images=len(self._images),
            selection_images=self._judge.image_count,
            rule=chosen.rule,
            rules=rules,
            candidates={variant.name: one.score.kl for variant, one in results.items()},
            candidates_learnt={variant.name: float(one.learnt.mean()) for variant, one in results.items()},
            passes=passes,
            before=before,
            after=score,
            duration_s=self._work.clock() - began_s,
        )
        return Refined(draft, report, chosen, self._multipliers)

    def without_rework(self, operators: Mapping[str, bool], rule_of: Mapping[str, str]) -> Draft:
        """The draft of `operators` as far as it is known from the first one.

        Nothing is rounded again but what equalization ties to an operator that is no longer an integer; see
        `parts`. For measuring what one operator more in fp32 saves, dozens of times.
        """
        return self._parts(operators, rule_of).of(operators)

    def alone(self, name: str, operators: Mapping[str, bool], rule_of: Mapping[str, str]) -> Draft:
        """The draft in which one operator is an integer, with the ranges and weights of the first draft.

        Args:
            name: of the operator.
            operators: what is refined if nothing was before; `name` is one of them.
            rule_of: as for `refine`.
        """
        return self._parts(operators, rule_of).alone(name)

    def _parts(self, operators: Mapping[str, bool], rule_of: Mapping[str, str]) -> Parts:
        """Of what the first call of `refine` made, which may be this one."""
        if self._best is None:
            self.refine(operators, rule_of)
        assert self._best is not None  # `refine` has just set it
        return Parts(self._network, self._best, self._round)

    def _round(self, draft: Draft) -> Draft:
        """The pass over the weights alone; what it has rounded before costs nothing."""
        if not self._options.weights:
            return rounded_weights(self._network, draft)
        return refine_weights(
            self._network, draft, self._observations, threads=self._threads, cache=self._cache
        )

    def _plain(self, operators: Mapping[str, bool], rule_of: Mapping[str, str], rule: str) -> Draft:
        return rounded_weights(
            self._network, draft_with(self._network, operators, rule_of, self._table, rule)
        )

    def _rules(self, rule_of: Mapping[str, str]) -> tuple[str, ...]:
        """What is tried for "auto", the preferred one first."""
        full = self._options.effort == "full"
        return (*self._first_rules, *rules_for(self._table, rule_of, full=full))

    def _ranked(self, operators: Mapping[str, bool], rule_of: Mapping[str, str]) -> Mapping[str, float]:
        """Rule → KL divergence of its plain integer model, the best first; see `ranking`."""
        rules = self._rules(rule_of)

        def make() -> dict[str, float]:
            # Drafts are made here, because measuring is for one thread; while they are, others are judged.
            drafts = (self._plain(operators, rule_of, rule) for rule in rules)
            scores = in_order(self._judge, drafts, workers=self._threads)
            found = {rule: score.divergences for rule, score in zip(rules, scores, strict=True)}
            return {rule: float(found[rule].mean()) for rule in ranked(found)}

        facts = {"operators": dict(operators), "rules": dict(rule_of), "of": rules}
        return self._work.done("ranking", facts, make, NUMBERS)

    def _outcomes(
        self, operators: Mapping[str, bool], rule_of: Mapping[str, str], rules: Sequence[str]
    ) -> dict[Variant, Outcome]:
        """Carries what the effort allows through all passes: rules first, then what improves the best."""
        run = partial(self._run, operators, rule_of)
        find: Callable[[str], dict[str, float]] = partial(self._find_multipliers, operators, rule_of)
        if self._settled is not None:
            return run([self._settled])
        full = self._options.effort == "full"
        wanted = rules[: _FULL_CANDIDATES if full else 1]
        results = run([Variant(rule) for rule in wanted])
        if full and self._dense_channels(operators):
            variant = Variant(best_of(results).rule, exponent=_DENSE_EXPONENT)
            # It seldom changes which rule is the best, so that the next step can begin by its side.
            ahead = AheadOfTime(find, variant.rule, wanted=self._options.scaling and self._threads > 1)
            with ahead as find:
                results |= run([variant], meanwhile=ahead.begin)
        if full and self._options.scaling:
            variant = replace(best_of(results), scaled=True)
            self._multipliers = self._work.done(
                "multipliers",
                {"operators": dict(operators), "rules": dict(rule_of), "rule": variant.rule},
                partial(find, variant.rule),
                NUMBERS,
            )
            if self._multipliers:
                results |= run([variant])
        return results

    def _find_multipliers(
        self, operators: Mapping[str, bool], rule_of: Mapping[str, str], rule: str
    ) -> dict[str, float]:
        """Tensor → factor, of those whose rule nobody gave and whose channels are not equalized."""
        left_out = {tensor for tensor, given in rule_of.items() if given not in (AUTO, self._options.ranges)}
        if self._options.equalize:
            left_out.update(one.tensor for one in find_channels(self._network, operators) if one.free)
        return find_multipliers(
            self._network,
            draft_with(self._network, operators, rule_of, self._table, rule),
            self._images,
            self._observations.scores,
            left_out=left_out,
            threads=self._threads,
        )

    def _run(
        self,
        operators: Mapping[str, bool],
        rule_of: Mapping[str, str],
        variants: Sequence[Variant],
        meanwhile: Callable[[], None] | None = None,
    ) -> dict[Variant, Outcome]:
        """Carries variants through all passes, several at once; `meanwhile` is called where one has to be."""

        def prepared(position: int) -> Callable[[], Outcome]:
            beginning = self._beginning(operators, rule_of, variants[position])
            if meanwhile is not None:
                meanwhile()
            return beginning

        facts = [
            {
                "operators": dict(operators),
                "rules": dict(rule_of),
                "variant": variant_values(variant),
                "multipliers": dict(self._multipliers) if variant.scaled else None,
            }
            for variant in variants
        ]
        with one_blas_thread():
            outcomes = self._work.done_each(
                "variant",
                facts,
                prepared,
                lambda beginning: beginning(),
                OUTCOME,
                workers=len(variants) if self._threads > 1 else 1,
            )
        return dict(zip(variants, outcomes, strict=True))

    def _beginning(
        self, operators: Mapping[str, bool], rule_of: Mapping[str, str], variant: Variant
    ) -> Callable[[], Outcome]:
        """A variant that is ready to be carried through all passes; what all share has been measured."""
        draft = draft_with(self._network, operators, rule_of, self._table, variant.rule)
        if variant.scaled:
            draft = scaled(self._network, draft, self._multipliers)
        known = {channel.tensor for channel in self._channels}
        material = Material(
            network=self._network,
            observations=self._observations,
            images=self._images,
            channels=[c for c in find_channels(self._network, operators) if c.tensor in known],
            judge=self._judge,
            options=self._options,
            threads=self._threads,
            cache=self._cache,
        )
        return partial(run_passes, material, draft, exponent=variant.exponent)

    def _dense_channels(self, operators: Mapping[str, bool]) -> bool:
        if not self._options.equalize:
            return False
        return any(not channel.free for channel in find_channels(self._network, operators))

    @cached_property
    def _channels(self) -> list[Channels]:
        """What could be equalized if everything that can be an integer is one."""
        return find_channels(self._network, {o.name: True for o in self._network.inventory.quantizable})

    @cached_property
    def _observations(self) -> Observations:
        # Factors that dense operators divide out are tried by full effort only.
        scaled = [one.tensor for one in self._channels if one.free or self._options.effort == "full"]
        return observe(
            self._network.model,
            Watched(list(self._network.weighted.values()), scaled),
            [(image[:1], None) for image in self._images],
            images=len(self._images),
            threads=self._threads,
            seed=self._options.seed,
        )


def _unscored(one: PassReport, score: Score) -> PassReport:
    """What was skipped before there were scores changed none."""
    return replace(one, before=score, after=score) if one.status == "skipped" else one


def _taken_back(one: PassReport) -> PassReport:
    return replace(one, status="taken back") if one.status == "applied" else one


def _ranges_report(rules: Mapping[str, float], rule: str, before: Score, after: Score) -> PassReport:
    if not rules:
        return PassReport("ranges", "skipped", f"the rule is given: {rule}", before, before)
    return PassReport("ranges", "applied", f"{rule}, of {len(rules)} rules", before, after)
