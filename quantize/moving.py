"""Moves finished files over their final names: all of them, or none, also if the process is killed half-way.

What a name held before is linked into the staging folder first, and a journal there says which name is about
to hold which file. While the journal exists the move has not happened: it is undone by whoever finds it, this
process after an error, or the next run after a kill. Removing it is the one step that makes the move final.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.interrupts import uninterrupted
from quantize.errors import PipelineError

JOURNAL = "moving.json"


def move_into_place(files: Mapping[Path, Path]) -> None:
    """Moves files to their final names.

    Args:
        files: where each is, in one staging folder -> where it goes, on the same file system.

    Raises:
        PipelineError: the system refused; everything is as it was.
    """
    if not files:
        return
    (folder,) = {source.parent for source in files}
    with uninterrupted():
        try:
            _begin(folder, files)
            for source, target in files.items():
                os.replace(source, target)
            (folder / JOURNAL).unlink()
        except BaseException as error:
            undo(folder)
            if isinstance(error, OSError):
                where = next(iter(files.values())).parent
                raise PipelineError(
                    f"cannot move the results to {where}: {error.strerror}; what was there is untouched"
                ) from error
            raise


def _begin(folder: Path, files: Mapping[Path, Path]) -> None:
    """Keeps what is there under second names, and writes the journal."""
    steps = []
    for number, (source, target) in enumerate(files.items()):
        backup = f"before-{number}" if target.exists() else None
        if backup is not None:
            _keep(target, folder / backup)
        steps.append({"target": target.name, "backup": backup, "inode": source.stat().st_ino})
    draft = folder / f"{JOURNAL}.new"
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps({"steps": steps}))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, folder / JOURNAL)


def undo(folder: Path) -> None:
    """Gives every name back what it held before the move that a journal in `folder` tells of, if any does.

    Safe to be interrupted and repeated.
    """
    try:
        journal: dict[str, Any] = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
        steps = [(str(one["target"]), one["backup"], int(one["inode"])) for one in journal["steps"]]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name, backup, inode in reversed(steps):
        # Names only: a journal cannot reach outside of the folder that the staging folder lies in.
        target = folder.parent / Path(name).name
        with contextlib.suppress(OSError):
            if backup is not None:
                os.replace(folder / Path(str(backup)).name, target)
            elif target.lstat().st_ino == inode:
                target.unlink()
    with contextlib.suppress(OSError):
        (folder / JOURNAL).unlink()


def _keep(target: Path, backup: Path) -> None:
    """A second name for a file, or a copy where the file system has no hard links."""
    try:
        os.link(target, backup)
    except OSError:
        shutil.copy2(target, backup)
