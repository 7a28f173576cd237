#!/usr/bin/env python3
"""What behaviour's statistics are worth: bursts on a labelled stream, peer groups against plain newness on held-out days.

    behavior.py [CORPUS] [--build]

- bursts: CORPUS/data/darpa/darpa_original.zip, given to the example `darpa` of libs/behavior: an area below 0.98 is a failure;
- peer groups: 14 days of generated CloudTrail (`gumshoe generate`), and on the last three days attacks among them: principals that
  do what none of their kind does; and, with CORPUS, the real attacks of CORPUS/data/open/{stratus,traildiscover}, each done by a
  principal of the generated organisation. Given to the example `peers`: no more than plain newness reaches is a failure.

Examples and `gumshoe` are taken as built in the profile `dev`; with --build they are built in `release` first, for the speed that
counts. The last line is `N passed, N failed`.
"""

import collections
import gzip
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DAYS, HELD_OUT, RECORDS = 14, 3, 120_000


def target(build):
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or os.path.expanduser("~/.cache/gumshoe/target"))
    return folder / ("release" if build else "debug")


def bursts(built, corpus):
    archive_path = corpus / "data" / "darpa" / "darpa_original.zip"
    if not archive_path.exists():
        archive_path = corpus / "darpa" / "darpa_original.zip"
    with zipfile.ZipFile(archive_path) as archive, archive.open("darpa_original.csv") as edges:
        process = subprocess.Popen([built / "examples" / "darpa"], stdin=subprocess.PIPE)
        with process.stdin as stream:
            shutil.copyfileobj(edges, stream, 1 << 20)
        return process.wait() == 0


def records_of(path):
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as file:
        return json.load(file)["Records"]


def pair(record):
    """Principal and operation of a record; a session counts for its role."""
    identity = record.get("userIdentity") or {}
    issuer = (identity.get("sessionContext") or {}).get("sessionIssuer") or {}
    principal = issuer.get("arn") or identity.get("arn")
    service, name = record.get("eventSource"), record.get("eventName")
    return (principal, f"{service} {name}") if principal and service and name else None


def generated(built, folder):
    """By day, the pairs of generated logs."""
    command = [built / "gumshoe", "generate", "--kind", "cloudtrail", "--records", str(RECORDS), "--days", str(DAYS), "--out", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    days = collections.defaultdict(set)
    for path in sorted(pathlib.Path(folder).rglob("*.json*")):
        for record in records_of(path):
            if found := pair(record):
                days[record["eventTime"][:10]].add(found)
    return [days[day] for day in sorted(days)]


def by_others(days, rng):
    """On each held-out day, principals that do what is usual elsewhere, but that neither they nor any of their kind do."""
    doing, kinds = collections.defaultdict(set), {}
    for principal, item in set().union(*days):
        doing[principal].add(item)
    for principal in doing:
        # Roles of a name with a number, users, services: what stands before the name's last part.
        kinds[principal] = principal.rsplit("/", 1)[-1].rstrip("0123456789").rsplit("-", 1)[0]
    of_kind = collections.defaultdict(set)
    for principal, items in doing.items():
        of_kind[kinds[principal]] |= items
    items = sorted(set().union(*doing.values()))
    attacks = collections.defaultdict(set)
    for day in range(len(days) - HELD_OUT, len(days)):
        for principal in rng.sample(sorted(doing), min(40, len(doing))):
            foreign = [item for item in items if item not in of_kind[kinds[principal]]]
            if foreign:
                attacks[day].add((principal, rng.choice(foreign)))
    return attacks


def real(days, corpus, rng):
    """The operations of real attacks, those of a scenario by one principal of the generated organisation."""
    principals = sorted({principal for day in days for principal, _ in day})
    attacks = collections.defaultdict(set)
    scenarios = sorted((corpus / "open" / "stratus" / "detonation-logs").glob("*.json"))
    scenarios += sorted((corpus / "open" / "traildiscover" / "events").rglob("*.json*"))
    for path in scenarios:
        try:
            found = json.loads(path.read_text())
        except ValueError:
            continue
        stack, items = [found], set()
        while stack:
            one = stack.pop()
            if isinstance(one, list):
                stack.extend(one)
            elif isinstance(one, dict):
                if isinstance(one.get("eventSource"), str) and isinstance(one.get("eventName"), str):
                    items.add(f"{one['eventSource']} {one['eventName']}")
                else:
                    stack.extend(one.values())
        principal = rng.choice(principals)
        attacks[len(days) - HELD_OUT + rng.randrange(HELD_OUT)] |= {(principal, item) for item in items}
    return attacks


def peers(built, days, attacks):
    process = subprocess.Popen([built / "examples" / "peers"], stdin=subprocess.PIPE, text=True)
    with process.stdin as stream:
        for day, pairs in enumerate(days):
            for principal, item in sorted(pairs - attacks[day]):
                stream.write(f"{day}\t{principal}\t{item}\t0\n")
            for principal, item in sorted(attacks[day]):
                stream.write(f"{day}\t{principal}\t{item}\t1\n")
    return process.wait() == 0


def main():
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    corpus, build = pathlib.Path(arguments[0]).resolve() if arguments else None, "--build" in sys.argv[1:]
    if build:
        for what in (["-p", "gumshoe-behavior", "--examples"], ["-p", "gumshoe", "--bin", "gumshoe"]):
            subprocess.run(["cargo", "build", "--release", "--locked", *what], cwd=ROOT, check=True)
    built, outcomes = target(build), []
    if corpus:
        print("bursts in the DARPA 1998 stream", flush=True)
        outcomes.append(bursts(built, corpus))
    with tempfile.TemporaryDirectory() as folder:
        days = generated(built, folder)
    print("peer groups, generated logs and principals that do what others do", flush=True)
    outcomes.append(peers(built, days, by_others(days, random.Random(1))))
    data = corpus and next((path for path in (corpus / "data", corpus) if (path / "open" / "stratus").exists()), None)
    if data:
        print("peer groups, generated logs and the operations of real attacks", flush=True)
        outcomes.append(peers(built, days, real(days, data, random.Random(2))))
    print(f"{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed")
    sys.exit(not all(outcomes))


if __name__ == "__main__":
    main()
