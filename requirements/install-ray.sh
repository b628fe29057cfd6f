#!/usr/bin/env bash
# Fill the environment of the tests' Ray cluster: install-ray.sh UV FOLDER. Where that cannot be done it says why and
# succeeds, and those tests are skipped; with REQUIRE_TRAIN=1 it fails instead.
set -euo pipefail
uv=$1 folder=$2
here=$(dirname "$0")

give_up() {
  rm -rf "$folder"
  printf '\n  Ray is not installed: %s\n  The tests of jobs on a Ray cluster are skipped.\n\n' "$1" >&2
  [[ ${REQUIRE_TRAIN:-0} != 1 ]] || exit 1
  exit 0
}

[[ $(uname -sm) == "Linux x86_64" ]] || give_up "its lock is for Linux on x86-64, and this is $(uname -sm)"

echo "installing Ray into $folder (about 400 MB on disk)"
"$uv" venv --quiet --clear --python 3.11 "$folder" || give_up "it needs Python 3.11"
"$uv" pip install --quiet --python "$folder/bin/python" --require-hashes --no-deps --only-binary :all: \
  -r "$here/ray.lock" || give_up "a package of requirements/ray.lock was not found or does not match its hash (see above)"
env -u PYTHONDONTWRITEBYTECODE "$folder/bin/python" -W ignore -c 'import ray' ||
  give_up "it cannot be imported on this machine (see above)"
touch "$folder/.installed"
