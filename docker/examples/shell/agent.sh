#!/bin/sh
# Counts, once a second, until it is told to end.
trap 'echo "level=info msg=\"told to end\""; exit 0' TERM
turn=0
while :; do
    turn=$((turn + 1))
    echo "level=info msg=\"turn $turn\""
    [ $((turn % 5)) -ne 0 ] || echo "level=warn msg=\"turn $turn: every fifth says so on stderr\"" >&2
    sleep 1
done
