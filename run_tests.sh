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

# Most tests keep one core busy, so two halves run side by side: 18 instead of 26 minutes on two cores.
halves=$(mktemp -d)
trap 'rm -rf -- "$halves"' EXIT
beside=(tests/robustness tests/calibration tests/examples tests/test_*.py)
leaving=()
for path in "${beside[@]}"; do
  leaving+=(--ignore="$path")
done

half() {
  local name=$1
  shift
  COVERAGE_FILE=$halves/$name.coverage "$python" -m pytest --basetemp="$halves/$name" --cov --cov-report= "$@"
}

half beside "${beside[@]}" >"$halves/beside.log" 2>&1 &
other=$!
failed=
half rest "${leaving[@]}" || failed=1
wait "$other" || failed=1
# A part of the tests says nothing about the coverage of the whole.
export COVERAGE_FILE=$halves/all.coverage
"$python" -m coverage combine --quiet "$halves/rest.coverage" "$halves/beside.coverage" || failed=1
"$python" -m coverage report --fail-under=90 || failed=1
# Last, so that pytest's own closing line ends the output.
cat -- "$halves/beside.log"
[[ -z $failed ]]
