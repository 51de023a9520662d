#!/bin/sh
# Prints the path of a Python that has pycose (COSE, RFC 9052) of the version the tests are written against, installing it first where it is missing.
set -eu

version=1.1.0
# Newer ones hand out arrays that this pycose does not take.
cbor=5.6.5
repository=$(cd "$(dirname "$0")/../.." && pwd)
venv=$repository/target/tools/cose
python=$venv/bin/python

is_right() {
    [ -x "$python" ] && "$python" -c "
import importlib.metadata as m, pycose.messages, cbor2, cryptography
assert m.version('pycose') == '$version' and m.version('cbor2') == '$cbor'" 2>/dev/null
}

if is_right; then
    printf '%s\n' "$python"
    exit 0
fi

mkdir -p "$(dirname "$venv")"
# Two test runs may start at once: the second waits and finds the first one's work done.
exec 9>"$venv.lock"
flock 9
if ! is_right; then
    python3 -m venv --clear "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check "pycose==$version" "cbor2==$cbor" >&2
fi
is_right || {
    echo "cose.sh: $venv has no pycose $version; remove it and run again" >&2
    exit 1
}
printf '%s\n' "$python"
