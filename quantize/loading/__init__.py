"""Reading models that anybody may have made: bounded, contained in their folder, and consistent.

`read` is the way in; the other modules each hold one kind of check, from the bytes (`wire`) over sizes,
external data and structure to values.
"""

from __future__ import annotations

from quantize.loading.read import external_files, read_model

__all__ = ["external_files", "read_model"]
