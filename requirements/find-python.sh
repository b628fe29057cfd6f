#!/bin/sh
# Prints the Python to make .venv with: `python3`, unless that was built without optimisation (as pyenv does by default)
# and the distribution's own is the same version: distributions build theirs optimised, which takes a sixth less CPU
# per request (docs/bench/what-paid.md).
ask() { "$1" -c "$2" 2>/dev/null; }
version='import sys; print("%d.%d" % sys.version_info[:2])'
plain='import sys, sysconfig; args = sysconfig.get_config_var("CONFIG_ARGS") or ""
sys.exit(sys.base_prefix == "/usr" or "--enable-optimizations" in args)'
complete='import ensurepip, venv'

if ask python3 "$plain" && [ "$(ask python3 "$version")" = "$(ask /usr/bin/python3 "$version")" ] &&
  ask /usr/bin/python3 "$complete"; then
  echo /usr/bin/python3
else
  echo python3
fi
