"""Which processor this is, as far as its kernels may differ from those of another."""

from __future__ import annotations

import platform
from pathlib import Path

# The instruction sets that decide which integer kernels run; of the many that a CPU has.
_FEATURES = frozenset(
    {"avx2", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm"}
)
CPUINFO = Path("/proc/cpuinfo")


def cpu(cpuinfo_path: Path = CPUINFO) -> tuple[str, list[str]]:
    """Its name, and those of its instruction sets that decide which kernels run (where Linux tells them)."""
    try:
        text = cpuinfo_path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor(), []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags") or fields.get("features") or ""
    return fields.get("model name") or platform.processor(), sorted(_FEATURES & set(flags.split()))
