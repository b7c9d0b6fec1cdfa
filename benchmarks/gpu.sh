#!/usr/bin/env bash
# What a GPU makes of the experiment, in one file. Usage: bash benchmarks/gpu.sh [FILE]
# Needs CUDA, about an hour, and the downloads (a network, or the files in downloads/). QUICK=1: a tenth of it, on drawn
# images, the script's time from that of one epoch and of three, with whatever device there is.
set -euo pipefail
cd "$(dirname "$0")/.."
make --silent .venv/ready
export PATH="$PWD/.venv/bin:$PATH"
file=${1:-gpu.md} full=--full real=REAL=1
[ -z "${QUICK:-}" ] || full=--extrapolate real=""

section() { # a heading, then what a command prints
  printf '\n## %s\n\n`%s`\n\n```\n' "$1" "${*:2}"
  "${@:2}" 2>&1 || echo "failed: $?"
  printf '```\n'
}

{
  echo "# The experiment on a GPU, $(git rev-parse HEAD)"
  section "Machine" nvidia-smi
  section "Versions" python -c 'import torch; torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")
from pipeline.base.environment import environment
print(*map(": ".join, environment().items()), sep="\n")'
  section "Twice, the same bytes? Deterministic algorithms" make --silent verify $real
  section "Script with 2 and 16 workers, pipeline as it is" python -m benchmarks.bench $full --workers 2 16
  section "Pipeline from pixels, without stored features of layer3" python -m benchmarks.bench $full --workers 16 \
    --changes '{features: {layer3: null, avgpool: pixels}, approaches: {fine_tuning: {input: pixels}}}'
  section "Pipeline in bf16" python -m benchmarks.bench $full --workers 16 --changes '{precision: bf16}'
  section "Profile: the demo first" make --silent demo
  for stage in "features layer3" "train fine_tuning"; do
    section "Profile: $stage, of the demo" env -C demo python -m benchmarks.profile $stage
  done
} | tee "$file"
