"""Makes the seeds of `fuzz/corpus`: one small input for each format and feature that a reader knows.

`python -m fuzz.make_corpus` writes those that are missing, under names that begin with `seed-`; everything
else in the corpus was a finding once, and stays. Nothing is taken from elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fuzz import seeds_models, seeds_other, seeds_text
from fuzz.harness import CORPUS

SEEDS = {**seeds_text.SEEDS, **seeds_models.SEEDS, **seeds_other.SEEDS}


def main() -> int:
    """Writes the missing seeds."""
    written = 0
    for target, make in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in make().items():
            path: Path = folder / f"seed-{name}"
            if not path.exists():
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                written += 1
    print(f"wrote {written} seeds into {CORPUS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
