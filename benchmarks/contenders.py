"""Who takes part, and how each is run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Cost, project_environment, run
from calibration.cache import KIND as PIXELS
from calibration.cache import default_folder
from calibration.store import Store

# The command ends with 1 where the tolerance is not met; that is a result too, and costs as much.
_OURS_ACCEPTED = (0, 1)


@dataclass(frozen=True)
class Job:
    """What everybody works on: a model, and images with their list of labels."""

    model: Path
    images: Path
    image_list: Path
    config: str


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        cost: of the whole program.
        images_decoded: over all passes.
        models: format -> file.
    """

    cost: Cost
    images_decoded: int
    models: Mapping[str, Path]


@dataclass(frozen=True)
class Contender:
    """One way to quantize.

    Attributes:
        name: in tables.
        module: of `benchmarks` to run; None is the project's own command.
        flags: further flags of that command.
        warm: whether it finds the cache of an earlier run.
    """

    name: str
    module: str | None = None
    flags: Sequence[str] = ()
    warm: bool = False

    def run(self, job: Job, folder: Path) -> Outcome:
        """Runs it once, in processes of its own; files go to `folder`.

        Raises:
            ProgramFailed: it did not reach its end.
        """
        out, cache = folder / "out", folder / "cache"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        if not self.warm:
            shutil.rmtree(cache, ignore_errors=True)
        return self._ours(job, out, cache) if self.module is None else self._other(job, out, cache)

    def _other(self, job: Job, out: Path, cache: Path) -> Outcome:
        words = [job.model, job.images, job.image_list, out]
        command = [sys.executable, "-m", f"benchmarks.{self.module}", *map(str, words)]
        cost = run(command, environment=project_environment(cache))
        said = json.loads(cost.output.strip().splitlines()[-1])
        models = {kind: Path(path) for kind, path in said["models"].items()}
        return Outcome(cost, said["images_decoded"], models)

    def _ours(self, job: Job, out: Path, cache: Path) -> Outcome:
        store = Store(cache / default_folder().name, limit_bytes=0, warn=print)
        before = store.usage().counts.get(PIXELS, 0)
        command = [
            *(sys.executable, "-m", "quantize", "tune", "--quiet", "--keep_failed"),
            *(f"--input_model={job.model}", f"--config={job.config}", f"--output_model={out}"),
            *(f"--dataset_location={job.images}", f"--label_path={job.image_list}", *self.flags),
        ]
        cost = run(command, environment=project_environment(cache), accepted=_OURS_ACCEPTED)
        decoded = store.usage().counts.get(PIXELS, 0) - before  # each decoded image is kept, once
        (report,) = out.glob("*report*.json")
        files = json.loads(report.read_text(encoding="utf-8"))["models"]["int8"]
        return Outcome(cost, decoded, {kind: Path(facts["path"]) for kind, facts in files.items()})


def contenders(variants: Sequence[Sequence[str]] | None = None) -> list[Contender]:
    """Everybody who can take part here: ours cold and warm in each variant, then the others.

    Args:
        variants: flags of our command, a list for each variant; when not given, one for each value of
            `--refine` if the command has that flag, else one without any.
    """
    found = []
    for flags in variants if variants is not None else _own_variants():
        name = " ".join(["ours", *flags])
        found += [Contender(f"{name}, cold", flags=flags), Contender(f"{name}, warm", flags=flags, warm=True)]
    found.append(Contender("INC example", "inc_example"))
    found.append(Contender("ORT quantize_static", "ort_static"))
    if importlib.util.find_spec("nncf"):
        found.append(Contender("NNCF", "nncf_ptq"))
    return found


def _own_variants() -> list[list[str]]:
    from quantize.cli.flags import FLAGS

    if any(flag.name == "refine" for flag in FLAGS):
        return [[f"--refine={value}"] for value in ("none", "fast", "full")]
    return [[]]
