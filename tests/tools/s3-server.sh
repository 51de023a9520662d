#!/bin/sh
# Prints the path of a `moto_server` of the version the tests are written against, installing it first where it is missing: a server
# that speaks S3 over HTTP and checks signatures where it is told to.
set -eu

version=5.2.5
repository=$(cd "$(dirname "$0")/../.." && pwd)
venv=$repository/target/tools/s3-server
program=$venv/bin/moto_server

is_right() {
    [ -x "$program" ] && "$venv/bin/python" -c 'import importlib.metadata, sys; sys.exit(importlib.metadata.version("moto") != sys.argv[1])' "$version"
}

if is_right; then
    printf '%s\n' "$program"
    exit 0
fi

mkdir -p "$(dirname "$venv")"
# Two test runs may start at once: the second waits and finds the first one's work done.
exec 9>"$venv.lock"
flock 9
if ! is_right; then
    python3 -m venv --clear "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$version" >&2
fi
is_right || {
    echo "s3-server.sh: $program is not version $version; remove $venv and run again" >&2
    exit 1
}
printf '%s\n' "$program"
