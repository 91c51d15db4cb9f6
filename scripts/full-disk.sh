#!/usr/bin/env bash
# Does a really full disk refuse writes, and do they go on when there is room? Needs root (for a small tmpfs) and curl.
# Usage: scripts/full-disk.sh [PATH OF upnext]
set -euo pipefail
cd "$(dirname "$0")/.."
upnext=${1:-target/release/upnext}
if [ "$(id -u)" != 0 ]; then echo "full-disk: skipped, it takes root to mount a small disk"; exit 0; fi
disk=$(mktemp -d)
mount -t tmpfs -o size=48m tmpfs "$disk"
server=
cleanup() {
    [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    umount "$disk" && rmdir "$disk"
}
trap cleanup EXIT

data=$disk/data
head -c 12000000 /dev/zero >"$disk/filler"
key=$("$upnext" --data-dir "$data" keys create --name test --scopes admin)
for reserve in 0 2000000; do
    echo "== with store.min_free_bytes=$reserve"
    "$upnext" --data-dir "$data" --set server.bind=127.0.0.1:18497 --set store.min_free_bytes=$reserve \
        --set telemetry.log_filter=warn serve &
    server=$!
    url=https://127.0.0.1:18497
    ask() { curl -sk -o /tmp/answer -w '%{http_code}' -H "authorization: Bearer $key" "$@"; }
    for _ in $(seq 100); do [ "$(ask $url/readyz)" = 200 ] && break; sleep 0.2; done
    body() {
        printf '{"events":['
        for i in $(seq 500); do
            [ "$i" = 1 ] || printf ','
            printf '{"event_id":"%s-%s-%s","type":"click","session_id":"s%s","item_id":"i%s","user_id":"u%s"}' "$reserve" "$1" "$i" "$((i % 50))" "$((i % 90))" "$((i % 40))"
        done
        printf ']}'
    }
    stored=0
    while :; do
        body $stored >/tmp/body
        status=$(ask -X POST -H 'content-type: application/json' --data @/tmp/body $url/v1/events)
        [ "$status" = 200 ] || break
        stored=$((stored + 1))
    done
    echo "$((stored * 500)) events stored, then $status $(grep -o '"code":"[a-z_]*"' /tmp/answer)"
    [ "$status" = 507 ]
    echo "a list meanwhile: $(ask "$url/v1/recommendations?session_id=s1")"
    [ "$(ask "$url/v1/recommendations?session_id=s1")" = 200 ]
    rm -f "$disk/filler"
    status=$(ask -X POST -H 'content-type: application/json' --data @/tmp/body $url/v1/events)
    echo "with room again: $status"
    [ "$status" = 200 ]
    body 0 >/tmp/body
    ask -X POST -H 'content-type: application/json' --data @/tmp/body $url/v1/events >/dev/null
    echo "the first batch once more: $(grep -o '"status":"duplicate"' /tmp/answer | wc -l) of 500 are known"
    [ "$(grep -o '"status":"duplicate"' /tmp/answer | wc -l)" = 500 ]
    kill $server && wait $server || true
    server=
    head -c 6000000 /dev/zero >"$disk/filler" || true
done
echo "== ok"
