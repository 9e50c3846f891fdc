#!/usr/bin/env bash
# Fills tests/fuzz/corpus/wire with the payloads of tests/golden, one file each, and corpus/token_ids with some bodies.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p corpus/wire corpus/token_ids
cat ../golden/*.jsonl | grep -o '"payload": "[0-9a-f]*"' | cut -d'"' -f4 | sort -u |
    while read -r hex; do
        name=$(printf '%s' "$hex" | sha256sum | cut -c1-16)
        printf '%b' "$(printf '%s' "$hex" | sed 's/../\\x&/g')" > "corpus/wire/$name"
    done
ls corpus/wire | wc -l

list="$(seq -s, 1 40),$(seq -s', ' 99999990 100000010),4294967295,0"
printf '{"token_ids":[%s]}' "$list" > corpus/token_ids/list
printf '{"model":"a\\"]b","token_ids":[%s],"limit":7}' "$list" > corpus/token_ids/fields
printf ' {"x":{"token_ids":[1,[{"y":"}"}]]}, "token_ids" : [1, 2]}' > corpus/token_ids/nested
