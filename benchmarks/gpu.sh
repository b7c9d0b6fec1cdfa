#!/usr/bin/env bash
# What a GPU makes of the experiment, in one file: bash benchmarks/gpu.sh [FILE [PART ...]]
#
# Parts: machine starts work precisions profile twice images tests several; without PART all.
# Needs CUDA, and half an hour. CHANGES='{download: {archive: {url: …}}}' says where the data are,
# as YAML over params.yaml. QUICK=1: a tenth of the work on drawn images, on any device, without
# `images`; the script's time then follows from that of one epoch and of three.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
python -c 'import dvc, torch, torchvision' || make --silent .venv/ready
file=${1:-gpu.md}
parts=${*:2}
changes=${CHANGES:-"{}"}
[ -n "${QUICK:-}" ] && size=--extrapolate real="" || size=--full real=--real
has_gpu=$(python -c 'import torch; print(int(torch.cuda.is_available()))')
precisions="fp32 bf16"
[ "$has_gpu" = 0 ] || precisions="fp32 tf32 bf16"
run=$(mktemp -d) # where the pipeline's run stays, for the parts that look at it
trap 'rm -rf "$run"' EXIT

section() { # a heading, then what a command prints
  printf '\n## %s\n\n`%s`\n\n```\n' "$1" "${*:2}"
  "${@:2}" 2>&1 || echo "failed: $?"
  printf '```\n'
}

bench() { python -m benchmarks.bench $size --changes "$changes" "$@"; }
in_run() { (cd "$run/project" && python -m "$@"); }

machine() {
  section "Machine" nvidia-smi
  section "Persistence mode of the driver" nvidia-smi --query-gpu=persistence_mode --format=csv
  section "Versions" python -c 'import torch
torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")
from pipeline.base.environment import environment
print(*map(": ".join, environment().items()), sep="\n")'
}

starts() {
  section "Start of each stage, files in the page cache" python -m benchmarks.startup
  section "Start of each stage, files not in the page cache" python -m benchmarks.startup --cold
}

work() { # the same work side by side, and all of the pipeline's
  section "Script with 16 workers, and the pipeline, fp32" \
    bench --workers 16 --same-work --keep "$run/project"
}

precisions() {
  for precision in $precisions; do
    section "Pipeline, $precision" bench --workers --changes "{train: {precision: $precision}}"
  done
}

profile() {
  [ -d "$run/project" ] || section "Pipeline, fp32" bench --workers --keep "$run/project"
  section "Decoding" in_run benchmarks.decoding
  section "Batch sizes of evaluation" in_run benchmarks.batches fine_tuning
  one='{train: {epochs: 1}}'
  for approach in feature_extraction fine_tuning; do
    section "One epoch of $approach" in_run benchmarks.profile --changes "$one" train "$approach"
  done
  section "Evaluation" in_run benchmarks.profile evaluate fine_tuning
}

twice() { # deterministic algorithms: the same bytes
  for precision in $precisions; do
    section "Two runs, $precision: the same bytes?" python -m tools.verify $real \
      --changes "$changes" --changes "{train: {precision: $precision}}"
  done
}

images() {
  [ -n "${QUICK:-}" ] ||
    section "102,400 images of 256 pixels, bf16" python -m benchmarks.scaling real
}

tests() {
  section "Tests" pytest --numprocesses 8 --dist worksteal -q -m "gpu or not slow"
}

several() { # the message says whether torch lets processes share a GPU
  launch='{runtime: {launch: torchrun --nproc-per-node 2}}'
  section "Two processes on this machine" python -m tools.verify \
    --changes "$launch" --changes '{approaches: {fine_tuning: null, random_features: null}}'
}

{
  echo "# The experiment on a GPU, $(git rev-parse HEAD)"
  for part in ${parts:-machine starts work precisions profile twice images tests several}; do
    "$part"
  done
} | tee "$file"
