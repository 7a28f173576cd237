#!/usr/bin/env python3
"""Checks that no record of a known attack is missing from the graph that its files went into.

    attacks.py CORPUS

CORPUS/data/open/truth.jsonl names scenarios, their files and the ids of their records. The files of each go through a
real server; every id must then be in the graph, with the record's text. The last line is `N passed, N failed`.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

from gumshoe import Server, binary  # noqa: E402  the folder is known only now


def identity(raw):
    """What a record calls itself: CloudTrail's and Kubernetes' own ids."""
    try:
        record = json.loads(raw)
    except ValueError:
        return None
    return record.get("eventID") or record.get("auditID") if isinstance(record, dict) else None


def main():
    folder = pathlib.Path(sys.argv[1]).resolve() / "data" / "open"
    with open(folder / "truth.jsonl") as lines:
        scenarios = [scenario for scenario in map(json.loads, lines) if scenario.get("event_ids")]
    files = sorted({file for scenario in scenarios for file in scenario["files"]})
    with Server(binary()) as server:
        server.run("ingest", "--jobs", "64", *(str(folder / file) for file in files))
        events = [json.loads(line) for line in server.run("export", "events").splitlines()]
    found = {identity(event["raw"]) for event in events} | {event["id"] for event in events}
    failed = 0
    for scenario in scenarios:
        missing = [event_id for event_id in scenario["event_ids"] if event_id not in found]
        if missing:
            failed += 1
            print(f"FAILED {scenario['id']} ({scenario['label']}): {len(missing)} of {len(scenario['event_ids'])} records are missing: {missing[:3]}")
    if not any(scenario["label"] == "attack" for scenario in scenarios):
        failed += 1
        print("FAILED there are no attacks to check")
    print(f"{len(scenarios)} scenarios, {len(files)} files, {len(events)} events")
    print(f"{len(scenarios) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
