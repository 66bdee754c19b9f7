#!/bin/sh
# A counter with redis-cli:  sh counter.sh [options of redis-cli, such as -p 7000]
set -eu

KEY=demo:counter:sh

# Add one by compare-and-set. A lost race answers with the version and number that it lost to.
increment() {
    version=0 number=0
    while :; do
        reply=$(redis-cli "$@" CAS $KEY "$version" $((number + 1)) KEEPTTL)
        [ "$(echo "$reply" | sed -n 1p)" = 1 ] && return
        version=$(echo "$reply" | sed -n 2p) number=$(echo "$reply" | sed -n 3p)
    done
}

redis-cli "$@" DEL $KEY > /dev/null
for worker in 1 2 3; do
    (for _ in 1 2 3 4 5 6 7 8; do increment "$@"; done) &
done
wait
echo "three shells have counted to $(redis-cli "$@" GET $KEY)"

# The same request sent twice under one token counts once.
token=$$-$(date +%s)
redis-cli "$@" IDEM "$token" INCRBY $KEY 1 > /dev/null
redis-cli "$@" IDEM "$token" INCRBY $KEY 1 > /dev/null
total=$(redis-cli "$@" GET $KEY)
echo "one more, sent twice: $total"
redis-cli "$@" DEL $KEY > /dev/null
[ "$total" = 25 ] || { echo FAILED; exit 1; }
echo PASSED
