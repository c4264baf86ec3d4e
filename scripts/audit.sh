#!/usr/bin/env bash
# Asks whether a pinned package has a known vulnerability: bash scripts/audit.sh
#
# Exit codes: 0 none has, or nobody could be asked (the last line says which); 1 one has.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment dev
cd -- "$project"

# Known vulnerabilities that do not reach us, each with the reason: --ignore-vuln ID.
accepted=()

# From the lock alone: nothing is resolved or installed. A service that does not answer must not hold up the rest.
said=$(timeout 60 "$python" -m pip_audit --disable-pip --require-hashes --requirement requirements-dev.lock \
  --progress-spinner off --timeout 10 ${accepted[@]+"${accepted[@]}"} 2>&1) && code=0 || code=$?
if ((code == 0)); then
  printf 'audit: no known vulnerability in the pinned packages\n'
elif grep -q 'known vulnerabilit' <<<"$said"; then
  printf '%s\n' "$said"
  exit 1
else
  printf 'audit: not done, because the service that knows vulnerabilities could not be asked (%s)\n' \
    "$(tail -n 1 <<<"$said" | cut -c 1-150)"
fi
