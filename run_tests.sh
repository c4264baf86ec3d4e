#!/usr/bin/env bash
# Runs the tests; arguments go to pytest. Without any, all tests run and 90 % of the lines must be covered.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment dev
cd -- "$project"
if (($# == 0)); then
  # A part of the tests says nothing about the coverage of the whole.
  set -- --cov --cov-report=term --cov-fail-under=90
fi
exec "$python" -m pytest "$@"
