#!/usr/bin/env bash
# Fill an environment of training recipes for the CPU: install-train.sh UV FOLDER train|llamafactory. Where that cannot be
# done it says why and succeeds, since everything else runs without training jobs; with REQUIRE_TRAIN=1 it fails instead.
set -euo pipefail
uv=$1 folder=$2 name=$3
here=$(dirname "$0")

give_up() {
  rm -rf "$folder"
  printf '\n  The training recipes are not installed: %s\n  Jobs will wait until a worker has them.\n\n' "$1" >&2
  [[ ${REQUIRE_TRAIN:-0} != 1 ]] || exit 1
  exit 0
}

[[ $(uname -sm) == "Linux x86_64" ]] || give_up "they need Linux on x86-64, and this is $(uname -sm)"

echo "installing the packages of the recipes ($name) into $folder (about 2 GB on disk)"
"$uv" venv --quiet --clear --python 3.11 "$folder" || give_up "they need Python 3.11"
"$uv" pip install --quiet --python "$folder/bin/python" --require-hashes --no-deps --only-binary :all: \
  --no-binary pwinput -r "$here/$name-cpu.lock" ||
  give_up "a package of requirements/$name-cpu.lock was not found or does not match its hash (see above).
  For torch, set TUNEGATE_TORCH_FIND_LINKS to a folder or page with PyTorch's CPU wheels."
# Imports it once: a wheel that does not fit this machine shows here, and the bytecode is written for a fast start.
env -u PYTHONDONTWRITEBYTECODE HF_HUB_OFFLINE=1 \
  "$folder/bin/python" -W ignore -c 'import peft, trl, transformers.trainer' ||
  give_up "they cannot be imported on this machine (see above)"
touch "$folder/.installed"
