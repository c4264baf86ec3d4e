"""The folders that the main job writes to: held against other runs, and rid of what killed runs left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from quantize.config import Config
from quantize.destination import Destination
from quantize.locking import locked
from quantize.moving import undo
from quantize.scratch import sweep_staged, sweep_temporary


@contextlib.contextmanager
def held(destination: Destination, config: Config) -> Iterator[None]:
    """Holds the folder of the results and that of the trials' models for the time of the block.

    Where a run was killed while it moved its results into place, what was there before it is put back.

    Raises:
        InputError: another run holds one of them, or it cannot be written.
    """
    sweep_temporary()
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(destination.folder, "--output_model"))
        sweep_staged(destination.folder, recover=undo)
        workspace = config.tuning.workspace.path
        # Not Path.resolve, which raises where links lead in a circle; `locked` says so of the folder.
        if workspace is not None and os.path.realpath(workspace) != os.path.realpath(destination.folder):
            stack.enter_context(locked(workspace.absolute(), "--workspace"))
            sweep_staged(workspace)
        yield
