#!/usr/bin/env bash
# Real logs and published policy decisions against the real programs: tests/conformance.sh CORPUS
#
#   CORPUS/data/open              logs: every record of every file is an event, a duplicate or a dead letter
#   CORPUS/data/open/truth.jsonl  records of known attacks, none of which may be missing, and which rules must tell
#   CORPUS/data/darpa             a stream of edges with labelled attacks, for the statistics of bursts
#   CORPUS/iam                    policies with the decisions that other implementations give
#
# The last line is `N passed, N failed`. PYTHON names the interpreter.
set -uo pipefail
corpus=$(cd "${1:?usage: tests/conformance.sh CORPUS}" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 1

python=${PYTHON:-python3}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/gumshoe/target}
passed=0
failed=0

# Runs one part, shows it, and adds up its last line.
part() {
    local name=$1 log counts status
    shift
    printf '\n== %s\n' "$name"
    log=$(mktemp)
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -1)
    rm -f "$log"
    if [ -n "$counts" ]; then
        passed=$((passed + ${counts%% passed*}))
        counts=${counts#* passed, }
        # What a part allows itself to fail is not a failure: its exit code decides.
        [ "$status" -eq 0 ] || failed=$((failed + ${counts% failed}))
    elif [ "$status" -eq 0 ]; then
        status=1
    fi
    if [ "$status" -ne 0 ] && [ "${counts:-0 failed}" = "0 failed" ]; then failed=$((failed + 1)); fi
}

if [ -z "${GUMSHOE:-}" ]; then
    cargo build --workspace --all-targets || exit 1
fi
part "every file goes in with nothing lost" "$python" tests/conformance.py "$corpus"
part "no record of an attack is missing" "$python" tests/python/attacks.py "$corpus"
part "rules tell attacks, and no others" "${CARGO_TARGET_DIR:-target}/debug/examples/evaluate" "$corpus"
part "attacks are found from end to end, with few false alarms" "$python" tests/bench/detection.py "$corpus"
part "bursts in a stream of edges, and peer groups" "$python" tests/bench/behavior.py "$corpus"
part "policy decisions" "${CARGO_TARGET_DIR:-target}/debug/examples/conformance" "$corpus/iam"

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
