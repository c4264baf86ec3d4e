"""Coverage-guided fuzzing of everything that reads bytes which somebody else may have made.

| module | what it is |
|---|---|
| `harness` | what a target is, and when an input counts as a finding |
| `targets/` | one module per target, each with a `TARGET` |
| `messages` | a mutator that changes protobuf messages field by field |
| `__main__` | `python -m fuzz TARGET [libFuzzer's options]` under atheris |
| `make_corpus` | makes the seeds of `corpus/` |
| `corpus/` | seeds, and every input that was ever a finding; tests/robustness/test_fuzzing.py replays them |

`bash scripts/fuzz.sh [TARGET [SECONDS]]` runs them for long.
"""
