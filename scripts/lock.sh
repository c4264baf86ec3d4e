#!/usr/bin/env bash
# Resolves the dependencies again and writes constraints.txt, requirements.lock and requirements-dev.lock.
#
#   bash scripts/lock.sh                         after a change of pyproject.toml: what is pinned stays
#   bash scripts/lock.sh --upgrade               everything to its newest version that fits
#   bash scripts/lock.sh --upgrade-package NAME  one package
#
# All three hold for Python 3.10 to 3.12 on any system at once. The locks hold a hash for every file that may be
# installed, and nothing else is (scripts/setup_environment.py). Needs uv, from PATH or as UV=/path/to/uv.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

uv=${UV:-uv}
if ! type -P -- "$uv" >/dev/null; then
  printf "error: %s is not there: install uv with pip, or set UV to its path\n" "$uv" >&2
  exit 2
fi

header='bash scripts/lock.sh'
resolve() { "$uv" pip compile --quiet --universal --python-version 3.10 --custom-compile-command "$header" "$@"; }
every=(--extra dev --extra fuzz --extra supply)

resolve "$@" "${every[@]}" pyproject.toml -o constraints.txt
# Made anew from the pins, so that a file which was withdrawn does not keep its hash.
rm -f requirements.lock requirements-dev.lock
resolve --generate-hashes --no-annotate -c constraints.txt pyproject.toml -o requirements.lock
resolve --generate-hashes --no-annotate -c constraints.txt "${every[@]}" pyproject.toml -o requirements-dev.lock
