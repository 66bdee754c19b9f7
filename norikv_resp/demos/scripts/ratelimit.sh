#!/bin/sh
# A sliding-window rate limit with redis-cli:  sh ratelimit.sh [options of redis-cli]
#
# The key holds "TIME TIME …", the server's times of earlier requests. The time of the latest is
# not in the value but in the key's expiry, which the server set when it granted it.
set -eu

KEY=demo:ratelimit:sh
LIMIT=3
WINDOW=1500

cli() { redis-cli $OPTIONS "$@"; }
OPTIONS="$*"

# Whether a request is allowed; it counts if it is.
ask() {
    while :; do
        reply=$(printf 'MULTI\nGETVER %s\nPEXPIRETIME %s\nTIME\nEXEC\n' $KEY $KEY | cli | tail -n +5)
        micros=$(echo "$reply" | tail -n 1) seconds=$(echo "$reply" | tail -n 2 | head -n 1)
        now=$((seconds * 1000 + micros / 1000))
        expires=$(echo "$reply" | tail -n 3 | head -n 1)
        version=0 times= count=0
        if [ "$expires" -gt 0 ]; then
            version=$(echo "$reply" | sed -n 2p)
            for at in $(echo "$reply" | sed -n 1p) $((expires - WINDOW)); do
                [ $((at + WINDOW)) -gt $now ] && times="$times $at" count=$((count + 1))
            done
        fi
        [ $count -lt $LIMIT ] || return 1
        done=$(cli CAS $KEY "$version" "$times" PX $WINDOW | head -n 1)
        [ "$done" = 1 ] && return 0
    done
}

fail() { echo "FAILED: $1"; exit 1; }

cli DEL $KEY > /dev/null
for request in 1 2 3; do ask || fail "request $request"; done
if ask; then fail "one too many"; fi
echo "three are allowed, the fourth is not"
sleep 1.6
ask || fail "after the window"
echo "a window later the next one is"
cli DEL $KEY > /dev/null
echo PASSED
