#!/usr/bin/env bash
# Fuzzes for long: bash scripts/fuzz.sh [TARGET|all [SECONDS]], by default all targets, a minute each.
#
# What reaches new code is kept in .fuzz/TARGET and used again next time. A finding ends its target, and lies in
# .fuzz/ as TARGET-crash-…: mend it, and move it to fuzz/corpus/TARGET/ under a name that says what it was.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment dev
cd -- "$project"

wanted=${1:-all} seconds=${2:-60}
[[ $seconds =~ ^[0-9]+$ ]] || die "SECONDS is $seconds: give a whole number"
names=$("$python" -c 'from fuzz.targets import NAMES; print(*NAMES, sep="\n")')
if [[ $wanted != all ]]; then
  grep -qx -- "$wanted" <<<"$names" || die "TARGET $wanted does not exist: use all or one of ${names//$'\n'/, }"
  names=$wanted
fi

# The fuzzer ends without tidying up.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf -- "$TMPDIR"' EXIT

failed=
while IFS= read -r name; do
  printf '== %s\n' "$name"
  mkdir -p ".fuzz/$name"
  "$python" -m fuzz "$name" "-max_total_time=$seconds" "-artifact_prefix=.fuzz/$name-" ".fuzz/$name" || failed+=" $name"
done <<<"$names"
[[ -z $failed ]] || { printf 'findings in:%s\n' "$failed" >&2; exit 1; }
