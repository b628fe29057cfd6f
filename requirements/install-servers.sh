#!/usr/bin/env bash
# Installs the servers that the tests use (databases, Redis, nginx, Slurm, Prometheus), clocks that jump, and what reads
# charts/ (Go with Helm's template engine, Docker Compose without a daemon), where that is possible: Debian, as root. The
# tests start their own, with folders and ports of their own.
set -euo pipefail
missing=()
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
[ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
command -v redis-server >/dev/null || missing+=(redis-server)
[ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/slurmd ] && [ -x /usr/sbin/munged ] && [ -x /usr/bin/sbatch ] ||
  missing+=(slurmctld slurmd slurm-client munge)
command -v prometheus >/dev/null && command -v promtool >/dev/null || missing+=(prometheus)
command -v ip >/dev/null || missing+=(iproute2)
[ -x /usr/sbin/nginx ] || missing+=(nginx)
command -v wrk >/dev/null || missing+=(wrk)
[ -e /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 ] || missing+=(libfaketime)
[ -x /usr/bin/go ] && [ -d /usr/share/gocode/src/github.com/Masterminds/sprig ] &&
  [ -d /usr/share/gocode/src/sigs.k8s.io/yaml ] && [ -x /usr/bin/docker-compose ] ||
  missing+=(golang-go golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev docker-compose)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} for the tests"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  }
else
  echo "not installed: ${missing[*]}: their tests are skipped (as root on Debian, make test installs them)"
fi
