#!/bin/sh
# Leader election with redis-cli:  sh leader.sh [options of redis-cli, such as -p 7000]
set -eu

LEASE=demo:leader:sh
TERM_KEY=$LEASE:term
RESOURCE=$LEASE:resource

cli() { redis-cli $OPTIONS "$@"; }
OPTIONS="$*"

# Take the lease if it is free. The companion key's new version is the fencing token.
stand() {
    printf 'MULTI\nCHECK %s 0\nSET %s %s PX 500\nSETVER %s %s\nEXEC\n' \
        $LEASE $LEASE "$1" $TERM_KEY "$1" | cli | tail -n +5 | sed -n 3p
}

# Write under a fencing token; EXEC prints nothing if another leader has been elected.
write() {
    printf 'MULTI\nCHECK %s %s\nSET %s %s\nEXEC\n' $TERM_KEY "$1" $RESOURCE "$2" |
        cli | tail -n +4 | grep -q .
}

fail() { echo "FAILED: $1"; exit 1; }

cli DEL $LEASE $TERM_KEY $RESOURCE > /dev/null
ada=$(stand ada)
[ -n "$ada" ] || fail "nobody is elected"
echo "ada leads, fencing token $ada"
[ -z "$(stand bob)" ] || fail "two leaders"
write "$ada" by-ada || fail "the leader cannot write"

# Renewal: compare-and-set, so that nobody extends a lease that is not his.
version=$(cli VER $LEASE)
[ "$(cli CAS $LEASE "$version" ada PX 500 | sed -n 1p)" = 1 ] || fail "renewal"
[ "$(cli CAS $LEASE "$version" bob PX 500 | sed -n 1p)" = 0 ] || fail "a stolen renewal"

sleep 0.6 # ada is asleep
bob=$(stand bob)
[ -n "$bob" ] || fail "no fail-over"
echo "bob leads, fencing token $bob"
if write "$ada" by-ada-too-late; then fail "the old leader wrote"; fi
echo "ada wakes up and is refused"
write "$bob" by-bob || fail "the leader cannot write"
[ "$(cli GET $RESOURCE)" = by-bob ] || fail "the resource"
cli DEL $LEASE $TERM_KEY $RESOURCE > /dev/null
echo PASSED
