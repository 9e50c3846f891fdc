#!/usr/bin/env bash
# Fills tests/fuzz/corpus/wire with the payloads of tests/golden, one file each.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p corpus/wire
cat ../golden/*.jsonl | grep -o '"payload": "[0-9a-f]*"' | cut -d'"' -f4 | sort -u |
    while read -r hex; do
        name=$(printf '%s' "$hex" | sha256sum | cut -c1-16)
        printf '%b' "$(printf '%s' "$hex" | sed 's/../\\x&/g')" > "corpus/wire/$name"
    done
ls corpus/wire | wc -l
