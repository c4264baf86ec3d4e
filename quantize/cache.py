"""The cache of a run, as configured, and the command that looks after it."""

from __future__ import annotations

from pathlib import Path

from calibration.cache import KIND as PIXELS
from calibration.cache import default_folder
from calibration.store import Store, Warn
from quantize.baseline import KIND as LOGITS
from quantize.config import Config
from quantize.errors import InputError
from quantize.printable import printable
from quantize.report.charts.fonts import forget_fonts
from quantize.work import KIND as WORK

_BYTES_PER_GB = 10**9
_NAMES = {
    PIXELS: "decoded images",
    LOGITS: "batches of fp32 results",
    WORK: "pieces of finished work, which --resume reuses",
}


def open_store(config: Config, warn: Warn) -> Store | None:
    """The store that the configuration asks for, or None; nothing is written before it is used.

    What killed runs left half-written in it is removed.

    Raises:
        InputError: finished work is to be reused, and there is no place where it could be.
    """
    cache = config.settings.cache
    if not cache.enabled:
        return None
    try:
        folder = cache.dir or default_folder()
    except InputError as error:
        if config.tuning.resume:
            raise
        warn(f"{error}; going on without")
        return None
    store = Store(folder, limit_bytes=int(cache.size * _BYTES_PER_GB), warn=warn)
    store.tidy()
    return store


def run_cache(action: str, folder: Path | None) -> dict[str, object]:
    """Prints what the cache holds, or removes all of it; returns the same as plain values.

    Args:
        action: "info" or "clear".
        folder: of the cache; the default one when not given.

    Raises:
        InputError: it cannot be read.
    """
    store = Store(folder or default_folder(), limit_bytes=0, warn=print)
    try:
        store.check_readable()
    except OSError as error:
        raise InputError(
            f"--cache_dir {error.filename or store.folder}: cannot be read: {error.strerror}; check the "
            "path, and who may use it"
        ) from error
    if action == "clear":
        freed_bytes = store.clear()
        if folder is None:  # a folder that was named holds no list of fonts
            freed_bytes += forget_fonts()
        print(printable(f"{store.folder}: {_megabytes(freed_bytes)} freed"))
        return {"folder": str(store.folder), "freed_bytes": freed_bytes}
    usage = store.usage()
    print(printable(f"{store.folder}: {_megabytes(usage.total_bytes)}"))
    for kind, count in sorted(usage.counts.items()):
        print(f"  {count} {_NAMES.get(kind, kind)}, {_megabytes(usage.sizes_bytes[kind])}")
    return {"folder": str(store.folder), "size_bytes": usage.total_bytes}


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
