#!/usr/bin/env bash
# Tunes an ONNX image classifier into int8; sets up what it needs the first time. --demo shows it, --help says more.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/scripts/environment.sh"
prepare_environment run
run_module quantize tune "$@"
