#!/usr/bin/env bash
# Test, measure and train on an NVIDIA GPU, on a machine that has its driver, CUDA 12 or 13 and Python 3.11 or newer.
#
#   benchmarks/card.sh OUT [tests] [speed] [train]     all three, in that order, without names
#
# It ends by itself within eleven minutes, and what it found by then is in OUT: tests.log, speed-128.json and speed-1024.json,
# and train.tar, a comparison that the next occasion resumes when it finds it in OUT. What Python packages are missing
# is installed into OUT/site, from the wheels in the folder that CARD_WHEELS names, or from the index.
# CARD_PLATFORM=cpu shows on any machine that it works, on small networks: its figures are of no interest.
set -uo pipefail
out=$(mkdir -p "${1:?expected a folder for results}" && cd "$1" && pwd)
shift
parts=" ${*:-tests speed train} "
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
platform=${CARD_PLATFORM:-cuda}
deadline=$((SECONDS + ${CARD_SECONDS:-640}))
export PYTHONPATH="$out/site:$PWD" PYTHONUNBUFFERED=1 JAX_PLATFORMS=$platform,cpu
export JAX_COMPILATION_CACHE_DIR="$out/cache" XLA_PYTHON_CLIENT_PREALLOCATE=false TF_CPP_MIN_LOG_LEVEL=3
[ "$platform" = cpu ] && export JAX_PLATFORMS=cpu

left() { echo $((deadline - SECONDS)); }
say() { echo "$(left) s left: $*"; }
# Give a part the seconds that it may take, but no more than are left.
within() {
  local seconds=$1
  shift
  [ "$seconds" -gt "$(left)" ] && seconds=$(left)
  [ "$seconds" -gt 5 ] || { say "no time for $*"; return 1; }
  timeout -k 5 "$seconds" "$@"
}

say "installing what is missing"
if [ -n "${CARD_WHEELS:-}" ]; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$out/site" "$CARD_WHEELS"/*.whl
elif ! "$python" -c 'import capsjax, pytest, torch' 2> /dev/null; then
  cuda=$(nvidia-smi 2> /dev/null | sed -n 's/.*CUDA.*Version: \([0-9]*\).*/\1/p')
  "$python" -m pip install -q --no-compile --target "$out/site" ".[cuda${cuda:-12},bench]" pytest pytest-xdist beartype hypothesis
fi
{ nvidia-smi; "$python" --version; "$python" -m pip list; } > "$out/machine.txt" 2>&1
"$python" -c 'import capsjax, jax; print(jax.__version__, jax.devices(), jax.devices()[0].device_kind)' || exit 1

if [[ $parts == *" tests "* ]]; then
  say "tests"
  # What a GPU computes differently: contractions, gradients through routing, convolutions, a training step.
  tests=(tests/test_card.py tests/gradients/test_identities.py tests/routing/test_em.py tests/test_convolution.py tests/training/test_step.py)
  [ "$platform" = cpu ] && tests=(tests/test_together.py)
  within 150 "$python" -m pytest -q -n "${CARD_WORKERS:-6}" -p no:cacheprovider -p no:benchmark "${tests[@]}" > "$out/tests.log" 2>&1
  tail -n 12 "$out/tests.log"
fi

if [[ $parts == *" speed "* ]]; then
  say "speed"
  # Every contender holds its memory from the beginning: of the large batch only steps.
  few=(--out "$out" --at-once 12 --times 20)
  [ "$platform" = cpu ] && few=(--out "$out" --device cpu --config digits --rounds 1 --times 1 --size 128 --at-once 2 --only step)
  within 150 "$python" benchmarks/gpu.py speed-128 --batch 128 "${few[@]}" 2> "$out/speed.log"
  within 130 "$python" benchmarks/gpu.py speed-1024 --batch 1024 --only step "${few[@]}" 2>> "$out/speed.log"
  tail -n 3 "$out/speed.log"
fi

if [[ $parts == *" train "* ]]; then
  say "training"
  [ -f "$out/train.tar" ] && tar -xf "$out/train.tar" -C "$out"
  new=(experiments/mnist_sabour2017/short.yaml --out "$out/train")
  [ "$platform" = cpu ] && new=(smoke --compare.modes "[stop, full]" --compare.seeds 2 --out "$out/train")
  [ -d "$out/train" ] && new=(--resume "$out/train")
  # It is told to end, saves, and is packed: a checkpoint of this network has 100 MB.
  within "$(($(left) - 60))" "$python" -m capsjax compare "${new[@]}" ${CARD_TRAIN:-} > "$out/train.log" 2>&1
  tail -n 40 "$out/train.log"
  tar -cf "$out/train.tar" -C "$out" train
fi
say "done"
