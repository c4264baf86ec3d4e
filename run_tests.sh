#!/usr/bin/env bash
# Runs the tests; arguments go to pytest. Without any, all tests run and 90 % of the lines must be covered.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment dev
cd -- "$project"
if (($#)); then
  exec "$python" -m pytest "$@"
fi

# Most tests keep one core busy, so files run side by side, the next one wherever a core is free. No more than four at a
# time: a run of the real network takes up to 2 GB. `tests/conftest.py` says what has to stay together.
exec "$python" -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder \
  --cov --cov-report=term --cov-fail-under=90
