"""Where tables for people are printed."""

from __future__ import annotations

from rich.console import Console

__all__ = ["TableConsole"]


class TableConsole(Console):
    """Rich's console, which would end the program with code 1, "tolerance not met", if its reader leaves."""

    def on_broken_pipe(self) -> None:
        """Lets the command line decide, as for anything else that is printed."""
        raise BrokenPipeError
