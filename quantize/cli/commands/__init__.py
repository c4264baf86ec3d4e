"""The commands that take their subject as a positional argument; one module each.

To add one: write a module with a `COMMAND`, and name it here.
"""

from __future__ import annotations

from quantize.cli.commands import (
    cache,
    completion,
    export,
    inspect_model,
    package,
    predict,
    prepare,
    sensitivity,
)
from quantize.cli.commands.common import Command

__all__ = ["ADDED"]

ADDED: dict[str, Command] = {
    command.name: command
    for command in (
        predict.COMMAND,
        inspect_model.COMMAND,
        sensitivity.COMMAND,
        package.COMMAND,
        export.COMMAND,
        prepare.COMMAND,
        cache.COMMAND,
        completion.COMMAND,
    )
}
