#!/bin/sh
# Makes what compose.yaml needs to know in secrets/, where it is not there yet: keys, passwords, and a certificate that
# signs itself. The folder is for its owner only; its files are readable to all, since containers run as other users.
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 022
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

made() { # NAME COMMAND…: a file that is whole or not there
  [ -e "$1" ] && return
  name=$1
  shift
  "$@" > "$name.new"
  mv "$name.new" "$name"
}
random() { openssl rand -hex 24 | tr -d '\n'; }
kek() { openssl rand -base64 32 | tr '+/' '-_'; }
database_url() { printf 'postgresql+asyncpg://tunegate:%s@postgresql:5432/tunegate' "$(cat postgresql-password)"; }

made key kek
made postgresql-password random
made database-url database_url
made redis-password random
made metrics-token random
made grafana-password random
if [ ! -e tls.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=tunegate \
    -addext subjectAltName=DNS:console.localhost,DNS:llm.localhost -keyout tls.key -out tls.crt.new 2>/dev/null
  chmod 644 tls.key
  mv tls.crt.new tls.crt
fi
