#!/bin/sh
# Semantic search with redis-cli:  sh semantic.sh [options of redis-cli, such as -p 7000]
#
# EMBED is a command that prints a text's vector: the number of components, then each of them.
set -eu

EMBED=${EMBED:-python3 -m norikv_resp.embedders --model 256}
INDEX=demo:semantic:sh:vectors
DOCUMENT=demo:semantic:sh:doc

cli() { redis-cli "$@"; }

# A document and its vector, in one transaction: both are there, or neither is.
index() {
    id=$1 title=$2 content=$3
    shift 3
    vector=$($EMBED "$title $content")
    printf '%s\n' \
        "MULTI" \
        "SET $DOCUMENT:$id '{\"title\": \"$title\", \"content\": \"$content\"}'" \
        "VADD $INDEX VALUES $vector $id SETATTR '{\"words\": $(echo "$content" | wc -w)}'" \
        "EXEC" | cli "$@" | tail -n 2 | tr '\n' ' '
    echo "$id: $title"
}

# The nearest document to a question: its id, its distance and its text.
ask() {
    question=$1 wanted=$2
    shift 2
    hit=$(cli "$@" VSEARCH $INDEX 1 VALUES $($EMBED "$question"))
    id=$(echo "$hit" | head -n 1)
    echo "$question -> $(cli "$@" GET "$DOCUMENT:$id")"
    [ "$id" = "$wanted" ] || { echo "FAILED: found $id, not $wanted"; exit 1; }
}

cli "$@" DEL $INDEX > /dev/null
cli "$@" VCREATE $INDEX DIM "$($EMBED length | cut -d ' ' -f 1)" METRIC COSINE

index bread "Baking bread" "Feed the starter, knead the dough, let the loaf rise." "$@"
index chain "Oiling a bicycle chain" "Brush the chain and put a drop of oil on every link." "$@"
index roses "Pruning roses" "Cut above a bud that points away from the middle." "$@"

ask "how do I bake a loaf of bread" bread "$@"
ask "my bike's chain needs oil" chain "$@"
ask "when to prune a rose" roses "$@"

cli "$@" DEL $INDEX $DOCUMENT:bread $DOCUMENT:chain $DOCUMENT:roses > /dev/null
echo PASSED
