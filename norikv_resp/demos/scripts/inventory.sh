#!/bin/sh
# Inventory with redis-cli:  sh inventory.sh [options of redis-cli, such as -p 7000]
#
# An item is "QUANTITY DEADLINE HELD": one hold at a time keeps the shell short. The reservation is
# a key that expires at the deadline, and both change in one transaction.
set -eu

ITEM=demo:inventory:sh:lamp
HOLD=demo:inventory:sh:hold

cli() { redis-cli $OPTIONS "$@"; }
OPTIONS="$*"

now() { cli TIME | { read -r s; read -r u; echo $((s * 1000 + u / 1000)); }; }

# Read the item: version, quantity, deadline, held (0 once the deadline has passed).
look() {
    reply=$(cli GETVER $ITEM)
    version=$(echo "$reply" | sed -n 2p)
    set -- $(echo "$reply" | sed -n 1p)
    quantity=$1 until=$2 held=$3
    [ "$until" -gt "$(now)" ] || held=0
}

# Run a transaction guarded by the item's version; EXEC prints nothing if it has changed.
guarded() {
    { echo MULTI; echo "CHECK $ITEM $version"; cat; echo EXEC; } | cli | tail -n +5 | grep -q .
}

reserve() { # n, milliseconds
    look
    [ $((quantity - held)) -ge "$1" ] || return 1
    until=$(($(now) + $2))
    printf 'SET %s "%s %s %s"\nSET %s %s PXAT %s\n' \
        $ITEM $quantity $until $((held + $1)) $HOLD "$1" $until | guarded
}

commit() { # the server lets the reservation expire: then there is nothing to commit
    look
    reply=$(cli GETVER $HOLD)
    [ -n "$reply" ] || return 1
    n=$(echo "$reply" | sed -n 1p)
    printf 'CHECK %s %s\nSET %s "%s 0 0"\nDEL %s\n' \
        $HOLD "$(echo "$reply" | sed -n 2p)" $ITEM $((quantity - n)) $HOLD | guarded
}

fail() { echo "FAILED: $1"; exit 1; }

cli DEL $ITEM $HOLD > /dev/null
cli SET $ITEM "5 0 0" > /dev/null
reserve 4 60000 || fail "reserve"
reserve 2 60000 && fail "more was reserved than there is"
commit || fail "commit"
commit && fail "committed twice"
look; echo "4 of 5 are sold, $quantity is left"
reserve 1 300 || fail "reserve"
reserve 1 300 && fail "the last one was reserved twice"
sleep 0.4
commit && fail "an expired hold was committed"
look; echo "the hold has expired: $((quantity - held)) is available again"
[ $((quantity - held)) = 1 ] || fail "stock"
cli DEL $ITEM $HOLD > /dev/null
echo PASSED
