"""Checks the transforms of a configuration when it is read, not when the first image is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from quantize.config.document import Document
from quantize.errors import InputError, quoted

__all__ = ["check_transforms"]


def check_transforms(dotted: str, transform: Mapping[str, Any], document: Document) -> None:
    """Build a pipeline and throw it away.

    Args:
        dotted: the name of the `transform` field.
        transform: transform name → arguments, in the order they apply.
        document: for the line numbers in messages.

    Raises:
        InputError: a transform is unknown, has wrong arguments or a wrong place; the line is that transform's
            where it is wrong on its own.
    """
    from calibration.transforms import build_pipeline  # numpy and Pillow are slow to import

    location = tuple(dotted.split("."))
    for name, arguments in transform.items():
        try:
            build_pipeline({name: arguments})
        except InputError as error:
            parameter = _parameter_at_fault(str(error), arguments)
            where = document.where((*location, name, *parameter))
            field = ".".join((dotted, quoted(name)[1:-1], *parameter))
            raise InputError(f"{where}: {field}: {error}") from error
    try:
        build_pipeline(transform)
    except InputError as error:
        raise InputError(f"{document.where(location)}: {dotted}: {error}") from error


def _parameter_at_fault(message: str, arguments: Any) -> tuple[str, ...]:
    """The parameter that a message is about, if it is one that was given."""
    if not isinstance(arguments, Mapping):
        return ()
    named = (name for name in arguments if f": {name}: " in message or f"parameter {name!r}" in message)
    return tuple(str(name) for name in islice(named, 1))
