#!/usr/bin/env python3
"""Sends real logs through a real server, and compares what it says of each file with counts taken without it.

    conformance.py CORPUS

Every file under CORPUS/data/open (or CORPUS, if it has no such folder) must go in with nothing lost: the records that
`gumshoe ingest` reports are those that corpus_counts.py finds, and are events + duplicates + dead letters. Sent a second
time, nothing may change. The last line is `N passed, N failed`.
"""

import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "bench"))

from gumshoe import Server, binary  # noqa: E402  the folder is known only now


class Checks:
    """Counts what holds and says what does not."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, holds, what):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}")


def expected(folder):
    """Records of each file, by path below the folder."""
    counted = subprocess.run([sys.executable, HERE / "python" / "corpus_counts.py", folder], capture_output=True, text=True, check=True)
    lines = (json.loads(line) for line in counted.stdout.splitlines())
    return {str(pathlib.Path(line["file"])): line["records"] for line in lines}


def below(path, folder):
    path = pathlib.Path(path)
    return str(path.relative_to(folder)) if path.is_absolute() else str(path)


def main():
    corpus = pathlib.Path(sys.argv[1]).resolve()
    folder = corpus / "data" / "open" if (corpus / "data" / "open").is_dir() else corpus
    counts = {below(path, folder): records for path, records in expected(folder).items()}
    checks = Checks()
    checks.check(len(counts) > 0, f"{folder} holds no files")
    with Server(binary()) as server:
        code, out, err = server.command("--output", "json", "ingest", str(folder))
        checks.check(code == 0, f"ingest: exit code {code}: {err.strip()}")
        first = json.loads(out)
        files = {below(file["path"], folder): file for file in first["files"]}
        for path in sorted(counts.keys() | files.keys()):
            file = files.get(path)
            if file is None or path not in counts:
                checks.check(False, f"{path}: {'not sent' if file is None else 'not counted'}")
                continue
            accounted = file["events"] + file["duplicates"] + file["dead_letters"]
            checks.check(
                not file.get("error") and file["records"] == counts[path] == accounted,
                f"{path}: counted {counts[path]}, reported {file['records']} = {file['events']} + {file['duplicates']} + {file['dead_letters']} {file.get('error', '')}",
            )
        statistics = server.json("statistics")
        events = sum(kind["events"] for kind in statistics["kinds"])
        # Files of one name and content are one batch, which is reported for each of them.
        batches = {file["batch_id"]: file for file in first["files"]}.values()
        checks.check(events == sum(file["events"] for file in batches), f"the graph holds {events} events, reported were {first['totals']['events']}")
        checks.check(
            statistics["dead_letters"] == sum(file["dead_letters"] for file in batches),
            f"the graph holds {statistics['dead_letters']} dead letters, reported were {first['totals']['dead_letters']}",
        )
        again = server.json("ingest", str(folder))
        same = all(file["already_committed"] and file["records"] == files[below(file["path"], folder)]["records"] for file in again["files"])
        checks.check(same, "sent again, some file was not known or was counted otherwise")
        checks.check(server.json("statistics") == statistics, "sent again, the graph changed")
        checks.check(server.json("findings")["findings"] != [], "no findings in the graph")
    print(f"{len(files)} files, {first['totals']['records']} records")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
