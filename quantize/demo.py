"""The bundled example: the same code path as any other run, on images that it writes itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from quantize.conclusion import TuningResult
from quantize.config import SHIPPED_FOLDER, load_config
from quantize.demo_data import write_digits_dataset
from quantize.diagnose.options import ReportOptions
from quantize.errors import InputError
from quantize.pipeline import run_tune
from quantize.scratch import temporary_folder
from quantize.stages import Verbosity

_CONFIG = "demo_digits.yaml"
_MODEL = Path("examples") / "digits" / "digits-mobilenetv2.onnx"
_OUTPUT = Path("demo-output")
_ROOT_FIELD = "dataloader.dataset.ImageFolder.root"


def run_demo(
    output_model: Path | None,
    overrides: Mapping[str, object],
    *,
    verbosity: Verbosity = "normal",
    keep_failed: bool = False,
    profile: bool = False,
    command: Sequence[str] = (),
    report: ReportOptions | None = None,
) -> TuningResult:
    """Quantizes the small MobileNetV2 of `examples/digits` on handwritten digits.

    Args:
        output_model: as for any run; `demo-output/` in the working directory when not given.
        overrides: dotted field of the configuration -> value.
        verbosity: as for `run_tune`.
        keep_failed: as for `run_tune`.
        profile: as for `run_tune`.
        command: as for `run_tune`.
        report: as for `run_tune`.

    Raises:
        InputError: the checkout is incomplete, or the output cannot be written.
    """
    model = SHIPPED_FOLDER.parent / _MODEL
    if not model.is_file():
        raise InputError(f"--demo: {model} is missing; the example needs a complete checkout of the project")
    if overrides.get("tuning.resume") and "cache.dir" not in overrides:
        raise InputError(
            "--demo and --resume: the example keeps nothing between runs unless --cache_dir says where; "
            "give it to both runs"
        )
    with temporary_folder("demo") as folder:
        digits = write_digits_dataset(folder / "digits")
        paths = {
            f"quantization.calibration.{_ROOT_FIELD}": digits.calibration,
            f"evaluation.accuracy.{_ROOT_FIELD}": digits.evaluation,
        }
        # The images are gone after the run, and so is what was kept of them.
        cache = {} if "cache.dir" in overrides else {"cache.dir": folder / "cache"}
        return run_tune(
            load_config(SHIPPED_FOLDER / _CONFIG).with_overrides({**cache, **overrides, **paths}),
            input_model=model,
            output_model=output_model or Path.cwd() / _OUTPUT,
            verbosity=verbosity,
            keep_failed=keep_failed,
            profile=profile,
            command=command,
            report=report,
        )
