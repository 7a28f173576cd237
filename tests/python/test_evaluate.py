"""`gumshoe evaluate` on scenarios composed for it: what is found, what is not, and the exit codes."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

from gumshoe import binary  # noqa: E402  the folder is known only now

SAMPLE = HERE.parent / "fixtures" / "evaluate"


def evaluate(*arguments):
    done = subprocess.run([binary(), "--output", "json", "evaluate", *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample that can be changed, and a way to change its labels."""
    copy = pathlib.Path(shutil.copytree(SAMPLE, tmp_path / "sample"))

    def relabel(change):
        lines = [json.loads(line) for line in (copy / "truth.jsonl").read_text().splitlines()]
        (copy / "truth.jsonl").write_text("".join(json.dumps({**line, **change(line)}) + "\n" for line in lines))
        return copy

    return relabel


def test_attacks_are_found_and_the_rest_is_quiet():
    code, report, err = evaluate(SAMPLE, "--min-recall", "1", "--max-alarms", "0", "--blank", "secret-tool_", "--background", "4000", "--background-days", "16", "--principals", "10")
    assert code == 0, err
    rows = {row["id"]: row for row in report["scenarios"]}
    assert list(rows) == ["trail-stopped", "key-for-another", "everyday", "denied-look"]
    for name, technique in (("trail-stopped", "T1562.008"), ("key-for-another", "T1098.001")):
        row = rows[name]
        assert row["told"] and row["right_technique"] and row["right_principal"] and technique in row["techniques"], row
    assert [rows[name]["alarms"] for name in ("everyday", "denied-look")] == [0, 0]
    assert [row["events"] for row in rows.values()] == [5, 4, 8, 1]
    summary = report["summary"]
    assert (summary["recall"], summary["technique_recall"], summary["principal_recall"], summary["false_alarms"]) == (1, 1, 1, 0)
    assert 0 < summary["seconds_to_verdict_p50"] <= summary["seconds_to_verdict_p95"]
    background = report["background"]
    assert background["events"] >= 3_900 and background["investigated"] == 10 and background["principals"] > 10
    assert summary["benign_events"] == background["events"] + 9


def test_wrong_labels_are_not_found(folder):
    somebody = {"trail-stopped": {"principal_arns": ["arn:aws:iam::111122223333:user/nobody"]}, "key-for-another": {"mitre": ["T1485"]}}
    code, report, err = evaluate(folder(lambda line: somebody.get(line["id"], {})), "--label", "attack", "--min-recall", "0.5")
    assert code == 1 and "0.0% of the attacks" in err, err
    rows = {row["id"]: row for row in report["scenarios"]}
    assert not rows["trail-stopped"]["told"] and rows["key-for-another"]["told"] and not rows["key-for-another"]["right_technique"]
    assert report["summary"]["recall"] == 0


def test_people_get_a_table():
    done = subprocess.run([binary(), "evaluate", SAMPLE, "--label", "attack"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "trail-stopped" in done.stdout and "attacks found: 100.0%" in done.stdout and "time to verdict:" in done.stdout


def test_mistakes_are_named(folder, tmp_path):
    code, report, err = evaluate(tmp_path / "nowhere")
    assert (code, report) == (1, None) and "truth.jsonl" in err
    code, report, err = evaluate(folder(lambda line: {"label": "odd"} if line["id"] == "everyday" else {}))
    assert (code, report) == (2, None) and "truth.jsonl:3" in err and "odd" in err
    code, _, err = evaluate(SAMPLE, "--label", "suspicious")
    assert code == 2 and "no scenario" in err
    code, _, err = evaluate(SAMPLE, "--label", "benign", "--min-recall", "0.9")
    assert code == 1 and "no attack" in err
