"""What a report says about the run around the measurements; the pipeline fills it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from quantize.criterion import Criterion
from quantize.diagnose.diagnosis import Diagnosis
from quantize.operators import FloatOperator
from quantize.refine.report import RefineReport
from quantize.soundness import NOT_CHECKED, Soundness


class TrialLike(Protocol):
    """One trial of the tuning, whatever engine made it."""

    @property
    def number(self) -> int:
        """From 1 on, in the order of time."""

    @property
    def description(self) -> str:
        """What was tried, in words."""

    @property
    def rules(self) -> Sequence[str]:
        """How activation ranges were found, most frequent rule first, e.g. `minmax`."""

    @property
    def per_channel(self) -> bool:
        """Whether all weights have one scale per output channel."""

    @property
    def fp32_operators(self) -> Sequence[str]:
        """Names of the operators that this trial left in fp32."""

    @property
    def accuracy(self) -> float:
        """Fraction, of the criterion's metric; NaN if the trial failed."""

    @property
    def met(self) -> bool:
        """Whether the criterion held."""

    @property
    def duration_s(self) -> float:
        """Wall time."""

    @property
    def abandoned_after_images(self) -> int | None:
        """Images after which judging stopped early; None: it was judged on all."""


@dataclass(frozen=True)
class ImageSetFacts:
    """Which images were used for what."""

    images: int
    sha256: str
    """Over names, labels and contents."""
    source: str
    """Where they came from, as the user named it."""


@dataclass(frozen=True)
class RunContext:
    """The run around a verification."""

    criterion: Criterion
    command: Sequence[str]
    configuration: Mapping[str, Any]
    """The validated configuration as plain JSON values."""
    seed: int
    calibration: ImageSetFacts
    evaluation: ImageSetFacts
    overlap_images: int
    """Images that are in both sets."""
    soundness: Soundness = NOT_CHECKED
    """Which images were looked at before the work, and which were left out."""
    trials: Sequence[TrialLike] = ()
    fp32_operators: Sequence[FloatOperator] = ()
    """Operators left in fp32 on purpose, with the reason."""
    stopped_by: str = ""
    """Why the search ended: criterion, trials, timeout or exhausted; empty where there was none."""
    sensitivity_nats: Mapping[str, float] = field(default_factory=dict)
    """Operator -> divergence saved by leaving it in fp32, where that was measured."""
    refinement: RefineReport | None = None
    """Of the accepted model; None where nothing was refined."""
    selection: ImageSetFacts | None = None
    """The images that chose between refined variants."""
    input_model: str = ""
    """Path of the model the user gave; empty where the verified fp32 file is that model."""
    input_model_sha256: str = ""
    primary_format: str = "QOperator"
    transforms: Any = None
    """What was done to the images, as plain JSON values."""
    packages: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] = field(default_factory=dict)
    """From `quantize.report.environment.platform_facts`."""
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Wall time of each stage, in the order of time."""
    stage_images: Mapping[str, int] = field(default_factory=dict)
    """Stage -> images that passed through in it, each as often as it did; absent where none did."""
    stage_peaks_bytes: Mapping[str, int] = field(default_factory=dict)
    """Stage -> the most memory that the process had taken when it ended."""
    peak_memory_bytes: int = 0
    started_at: str = ""
    """ISO 8601, UTC."""
    warnings: Sequence[str] = ()
    reused_trials: Sequence[int] = ()
    """Numbers of the trials that an earlier run had finished."""
    reused_pieces: int = 0
    """How many pieces of finished work were reused."""
    reused_s: float = 0.0
    """How long those had taken."""
    diagnosis: Diagnosis | None = None
    """Where the error comes from; None where nobody looked."""
