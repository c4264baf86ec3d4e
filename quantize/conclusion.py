"""The end of the main job: the verdict, and what may be kept moved to its final names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantize.config import Format
from quantize.destination import Destination
from quantize.files import atomic_write_text
from quantize.inquiry import Pages
from quantize.moving import move_into_place
from quantize.printable import printable
from quantize.report import RunContext, build_report, judge, report_text, show
from quantize.stages import Verbosity
from quantize.verify import Verification


@dataclass(frozen=True)
class TuningResult:
    """What a run of the main job came to.

    Attributes:
        passed: whether every written format meets the criterion.
        sentence: the verdict, one line.
        models: format -> file that was written; empty if the run failed and failed models are not kept.
        report_path: the JSON report.
        report: its content.
        verification: the measurements behind it.
    """

    passed: bool
    sentence: str
    models: Mapping[Format, Path]
    report_path: Path
    report: Mapping[str, Any]
    verification: Verification

    @property
    def exit_code(self) -> int:
        """0 within tolerance, 1 not."""
        return 0 if self.passed else 1


def conclude(
    verification: Verification,
    context: RunContext,
    destination: Destination,
    staged: Mapping[Format, Path],
    *,
    keep_failed: bool,
    verbosity: Verbosity,
    pages: Pages,
) -> TuningResult:
    """Gives the verdict, and moves what may be kept to its final names in one go."""
    verdict = judge(verification, context.criterion, context.fp32_operators, stopped_by=context.stopped_by)
    final = destination if verdict.passed else destination.failed()
    kept = staged if verdict.passed or keep_failed else {}
    verification = _at_final_names(verification, final.models)
    report = build_report(verification, context)
    if not kept:
        for artefact in report["models"]["int8"].values():
            artefact["path"] = None
    (folder,) = {path.parent for path in staged.values()}
    draft = folder / final.report.name
    atomic_write_text(draft, report_text(report))
    moves = {path: final.models[kind] for kind, path in kept.items()} | {draft: final.report}
    for target, text in pages(report, final).items():
        atomic_write_text(folder / target.name, text)
        moves[folder / target.name] = target
    possible = [*destination.files, *destination.failed().files]
    earlier = [name for name in possible if name.exists() and name not in moves.values()]
    move_into_place(moves)
    if verbosity == "quiet":
        print(verdict.sentence)
    else:
        show(verification, context.criterion, verdict, kernels=verbosity == "verbose")
        for target in moves.values():
            print(printable(f"wrote {target}"))
        for name in earlier:
            print(printable(f"note: {name} is from an earlier run"))
    models = {kind: final.models[kind] for kind in kept}
    return TuningResult(verdict.passed, verdict.sentence, models, final.report, report, verification)


def _at_final_names(verification: Verification, names: Mapping[Format, Path]) -> Verification:
    """The same measurements, told of the files under the names that they get."""
    artefacts = {
        kind: dataclasses.replace(artefact, facts=dataclasses.replace(artefact.facts, path=names[kind]))
        for kind, artefact in verification.artefacts.items()
    }
    return dataclasses.replace(verification, artefacts=artefacts)
