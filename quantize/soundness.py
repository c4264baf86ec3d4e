"""Images that cannot be used: found before the work that they would spoil, named, counted, left out if asked.

Every image of every role is decoded once before anything is computed from any of them. With a cache that is
the decoding that would have come anyway; without one it is a pass of its own, because nothing less than
decoding an image to its end says whether it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calibration.dataloader import DataLoader
from quantize.errors import InputError
from quantize.printable import printable

# More than this share left out, and the figures would be about other data than those that were given.
MOST_SKIPPED_FRACTION = 0.01

# How many are named in one line, and in the report.
_NAMED_IN_A_LINE = 3
LISTED = 100

# How messages about single images end.
_CURES = (": replace it, or take it off the list", ", take it off the list", ": take it off the list")

# Of a name or a reason; both may hold anything, at any length.
_TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used.

    Attributes:
        role: what it was to be used for: calibration, selection or evaluation.
        name: relative to the data folder.
        reason: one line.
    """

    role: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{_short(self.name)}: {_short(self.reason)}"

    def to_json(self) -> dict[str, str]:
        """As plain values, of bounded length."""
        return {"role": self.role, "name": _short(self.name), "reason": _short(self.reason)}


@dataclass(frozen=True)
class Soundness:
    """What came of looking at the images.

    Attributes:
        checked: how many were looked at, one that has two roles twice.
        bad: those that cannot be used, in the order of the roles and then of the sets.
    """

    checked: int = 0
    bad: tuple[BadImage, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence, or none."""
        if not self.bad:
            return ()
        return (f"{_count(self)} skipped: {_named(self.bad)}",)

    def to_json(self) -> dict[str, object]:
        """For the report: counts, and the first bad images."""
        return {
            "checked_count": self.checked,
            "skipped_count": len(self.bad),
            "images": [one.to_json() for one in self.bad[:LISTED]],
        }


NOT_CHECKED = Soundness()


def sound(loaders: Mapping[str, DataLoader], *, skip: bool) -> tuple[dict[str, DataLoader], Soundness]:
    """The same loaders without the images that cannot be used, and which those are.

    What is left stays in its role and order, so that the roles stay disjoint.

    Args:
        loaders: role -> its images.
        skip: whether there may be any.

    Raises:
        InputError: there are, and that was not allowed; or too many; or all of one role.
    """
    left: dict[str, DataLoader] = {}
    bad: list[BadImage] = []
    for role, loader in loaders.items():
        problems = loader.problems()
        bad += (BadImage(role, loader.images.files[i], _alone(problems[i])) for i in sorted(problems))
        good = [i for i in range(len(loader.images)) if i not in problems]
        left[role] = loader.subset(good, progress=loader.progress) if problems else loader
    found = Soundness(sum(len(loader.images) for loader in loaders.values()), tuple(bad))
    if bad:
        _allow(found, left, skip=skip)
    return left, found


def _allow(found: Soundness, left: Mapping[str, DataLoader], *, skip: bool) -> None:
    """Raises InputError unless the run can go on without the bad images."""
    told = f"{_count(found)} bad, and cannot be used: {_named(found.bad)}"
    if not skip:
        raise InputError(f"{told}; replace them, take them off the list, or pass --on_bad_image skip")
    share = len(found.bad) / found.checked
    if share > MOST_SKIPPED_FRACTION:
        raise InputError(
            f"{told}; that is {share:.2%}, and --on_bad_image skip leaves out at most "
            f"{MOST_SKIPPED_FRACTION:.0%}; replace them"
        )
    for role, loader in left.items():
        if not len(loader.images):
            raise InputError(f"{told}; that leaves no image for {role}; replace them")


def _count(found: Soundness) -> str:
    verb = "is" if len(found.bad) == 1 else "are"
    return f"{len(found.bad)} of {found.checked} images {verb}"


def _named(bad: tuple[BadImage, ...]) -> str:
    named = "; ".join(map(str, bad[:_NAMED_IN_A_LINE]))
    more = len(bad) - _NAMED_IN_A_LINE
    return f"{named}; and {more} more" if more > 0 else named


def _alone(problem: str) -> str:
    """What is wrong without what to do about it, which is said once for all."""
    for cure in _CURES:
        problem = problem.removesuffix(cure)
    return problem


def _short(text: str) -> str:
    safe = printable(text[:_TEXT_CHARACTERS])
    return safe if len(text) <= _TEXT_CHARACTERS else f"{safe}…"
