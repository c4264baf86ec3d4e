#!/usr/bin/env bash
# Measures the accuracy or the speed of a model (--mode=accuracy|performance); --help says more.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment run
run_module quantize benchmark "$@"
