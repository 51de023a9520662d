#!/bin/sh
# Prints the path of a program that runs Debian's `prometheus-alertmanager`, unpacking the package first where it is missing. Nothing is
# installed, since the package's own service would start. Its templates have a fixed place under /usr/share, so it sees the package's
# own /usr/share there, and nobody else does.
set -eu

repository=$(cd "$(dirname "$0")/../.." && pwd)
folder=$repository/target/tools/alertmanager
binary=$folder/usr/bin/prometheus-alertmanager
start=$folder/start

if ! [ -x "$start" ]; then
    mkdir -p "$folder"
    # Two test runs may start at once: the second waits and finds the first one's work done.
    exec 9>"$folder.lock"
    flock 9
    if ! [ -x "$start" ]; then
        cd "$folder"
        apt-get -qq download prometheus-alertmanager >&2
        dpkg-deb -x prometheus-alertmanager_*.deb "$folder" >&2
        rm -f prometheus-alertmanager_*.deb
        cat >"$start.new" <<START
#!/bin/sh
exec unshare --map-root-user --mount sh -c 'mount --bind "$folder/usr/share" /usr/share && exec "$binary" "\$@"' sh "\$@"
START
        chmod +x "$start.new"
        mv "$start.new" "$start"
    fi
fi
"$start" --version >/dev/null 2>&1 || {
    echo "alertmanager.sh: $start does not run; it needs unshare(1) with user namespaces; remove $folder and run again" >&2
    exit 1
}
printf '%s\n' "$start"
