#!/usr/bin/env python3
"""What is found in real labelled logs, and how many false alarms there are: `gumshoe evaluate` on a corpus.

    detection.py CORPUS

CORPUS/data/open/truth.jsonl has the labels. At least 95% of the attacks must give the right principal an indicator with the right
technique, or a risk or severity of high; of 100,000 benign events, labelled or generated, at most one may have a high alarm. The last line is
`N passed, N failed`.

Environment: GUMSHOE (the program), EVALUATE_BACKGROUND (100000 generated records), EVALUATE_PRINCIPALS (100 of them investigated),
EVALUATE_LABELS (attack,benign-admin; `all` for all), EVALUATE_OUTPUT (a file for the results as JSON).
"""

import json
import os
import pathlib
import subprocess
import sys

from gumshoe import binary

MIN_RECALL = 0.95
MAX_ALARMS = 10.0
# Real attacks were made with a tool that writes its name into records, which must help nobody.
TOOLS = ("stratus-red-team_",)
# `should_not_alert` records are each what one rule must pass over, not what is benign: alone, after a history that is made up, all about
# them is new. They are measured with EVALUATE_LABELS=all.
LABELS = "attack,benign-admin"


def main():
    folder = pathlib.Path(sys.argv[1], "data", "open")
    command = [binary(os.environ.get("EVALUATE_PROFILE", "debug")), "--output", "json", "evaluate", str(folder), "--jobs", "2"]
    command += ["--background", os.environ.get("EVALUATE_BACKGROUND", "100000"), "--principals", os.environ.get("EVALUATE_PRINCIPALS", "100")]
    labels = os.environ.get("EVALUATE_LABELS", LABELS)
    if labels != "all":
        command += [option for label in labels.split(",") for option in ("--label", label)]
    command += [option for tool in TOOLS for option in ("--blank", tool)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"gumshoe evaluate: exit code {done.returncode}")
    report = json.loads(done.stdout)
    if os.environ.get("EVALUATE_OUTPUT"):
        pathlib.Path(os.environ["EVALUATE_OUTPUT"]).write_text(done.stdout)
    for row in report["scenarios"]:
        if row["label"] == "attack" and not (row["right_technique"] or row["high"]):
            print(f"not found: {row['id']}: told {' '.join(row['techniques']) or 'nothing'}")
        if row["alarms"] and row["label"] in ("benign", "benign-admin", "should_not_alert"):
            print(f"false alarm: {row['id']}: {' '.join(row['techniques'])}")
    for alarm in (report["background"] or {}).get("alarms", []):
        print(f"false alarm: {alarm}")
    for label, tally in report["labels"].items():
        print(f"{label}: {tally['scenarios']} scenarios, {tally['told']} told, {tally['right_technique']} with the right technique, "
              f"{tally['right_principal']} with the right principal first, {tally['found']} found, {tally['alarms']} high alarms, {tally['unread']} not readable")  # fmt: skip
    summary = report["summary"]
    print(f"recall {summary['recall']:.3f} (technique {summary['technique_recall']:.3f}, principal {summary['principal_recall']:.3f})")
    print(f"{summary['false_alarms']} false alarms in {summary['benign_events']} benign events: {summary['false_alarms_per_million_events']:.2f} in a million")
    print(f"time to verdict: {summary['seconds_to_verdict_p50']:.2f} s median, {summary['seconds_to_verdict_p95']:.2f} s at the 95th percentile")
    holds = [summary["recall"] >= MIN_RECALL, summary["false_alarms_per_million_events"] <= MAX_ALARMS]
    print(f"{holds.count(True)} passed, {holds.count(False)} failed")
    sys.exit(not all(holds))


if __name__ == "__main__":
    main()
