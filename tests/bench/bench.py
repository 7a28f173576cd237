#!/usr/bin/env python3
"""Raw log files to a committed graph, side by side with DuckDB and ClickHouse (chDB) on the same plain files.

The peers read the files and group them by what tells the cells apart that the graph's edges are made of, with two threads; their
result is thrown away.
Gumshoe reads the same files, keeps every record's text, and commits events, edges and entities to its lake. It is measured
pulling from a folder (from the source's creation to the end of SyncSource), the same without records' text, and sent by
`gumshoe ingest`. CloudTrail is measured as plain files and as gzip, as AWS delivers it; sizes and rates are of the plain text.
The limit is to only parse the same bytes with sonic-rs (libs/records/examples/parse.rs). Every measurement has a process of its
own, is repeated, and the best counts.

Environment: BENCH_SIZE (1GB), BENCH_FLOW_SIZE (a quarter of it), BENCH_REPEAT (3), BENCH_KINDS
(cloudtrail,cloudtrail-gzip,vpc-flow), BENCH_FOLDER (~/.cache/gumshoe/bench), BENCH_OUTPUT (a file for the results as JSON).
"""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

from gumshoe import Server, binary

THREADS = 2
# CloudTrail delivers every five minutes; a busy account and region makes a few MB in that time. So dense are the logs of who
# needs the speed that is measured here: 8 MB each five minutes from an account and region are 2.3 GB a day.
FILE_SIZE = "8MB"
FILE_MINUTES = "5"
# Of whom, at least what share of the rate of what else.
TARGETS = {
    "cloudtrail": [
        ("source", "chDB", 0.5),
        ("source", "chDB", 0.75),
        ("source", "DuckDB read_json", 4.0),
        ("without text", "chDB", 1.5),
        ("without text", "sonic-rs", 0.4),
    ],
    "vpc-flow": [("source", "DuckDB read_csv", 0.5), ("without text", "DuckDB read_csv", 1.0)],
}
TARGET_MEMORY = 512 << 20
WITHOUT_TEXT = ("--set", "ingest.batches.keep_text=false")

# What tells one cell of calls from another: the hour, everything about who called, account, operation, address, agent, error. The
# graph derives its edges from such cells.
CLOUDTRAIL_DUCKDB = """
SELECT date_trunc('hour', r.eventTime::TIMESTAMP) AS hour, r.userIdentity, r.recipientAccountId, r.eventSource, r.eventName,
       r.sourceIPAddress, r.userAgent, r.errorCode, count(*), min(r.eventTime), max(r.eventTime)
FROM (
    SELECT unnest(Records) AS r
    FROM read_json({files}, format = 'newline_delimited', maximum_object_size = {largest}, columns = {{'Records': 'STRUCT(
        eventTime VARCHAR, userIdentity STRUCT("type" VARCHAR, principalId VARCHAR, arn VARCHAR, accountId VARCHAR, accessKeyId VARCHAR,
        userName VARCHAR, invokedBy VARCHAR, sessionContext STRUCT(sessionIssuer STRUCT("type" VARCHAR, principalId VARCHAR, arn VARCHAR),
        sourceIdentity VARCHAR)), recipientAccountId VARCHAR, eventSource VARCHAR, eventName VARCHAR, sourceIPAddress VARCHAR,
        userAgent VARCHAR, errorCode VARCHAR)[]'}})
)
GROUP BY ALL
"""
# Much faster, if less obvious: the object as JSON first, its fields taken out by a second parse. The fastest form of several tried.
CLOUDTRAIL_DUCKDB_FROM_JSON = """
SELECT date_trunc('hour', r.eventTime::TIMESTAMP) AS hour, r.userIdentity, r.recipientAccountId, r.eventSource, r.eventName,
       r.sourceIPAddress, r.userAgent, r.errorCode, count(*), min(r.eventTime), max(r.eventTime)
FROM (
    SELECT unnest(from_json(json -> '$.Records', '[{{"eventTime": "VARCHAR", "userIdentity": {{"type": "VARCHAR", "principalId": "VARCHAR",
        "arn": "VARCHAR", "accountId": "VARCHAR", "accessKeyId": "VARCHAR", "userName": "VARCHAR", "invokedBy": "VARCHAR",
        "sessionContext": {{"sessionIssuer": {{"type": "VARCHAR", "principalId": "VARCHAR", "arn": "VARCHAR"}}, "sourceIdentity": "VARCHAR"}}}},
        "recipientAccountId": "VARCHAR", "eventSource": "VARCHAR", "eventName": "VARCHAR", "sourceIPAddress": "VARCHAR",
        "userAgent": "VARCHAR", "errorCode": "VARCHAR"}}]')) AS r
    FROM read_json_objects({files}, format = 'newline_delimited', maximum_object_size = {largest})
)
GROUP BY ALL
"""
# Columns read as they are parsed: eight times as fast as JSONAsString with JSON functions.
CLOUDTRAIL_CHDB = """
SELECT toStartOfHour(toDateTime(substring(r.1, 1, 19))) AS hour, r.2 AS identity, r.3 AS account, r.4 AS source, r.5 AS name, r.6 AS address,
       r.7 AS agent, r.8 AS error, count(), min(r.1), max(r.1)
FROM (
    SELECT arrayJoin(Records) AS r
    FROM file({files}, 'JSONEachRow', 'Records Array(Tuple(eventTime String, userIdentity Tuple(type String, principalId String, arn String,
        accountId String, accessKeyId String, userName String, invokedBy String, sessionContext Tuple(sessionIssuer Tuple(type String,
        principalId String, arn String), sourceIdentity String)), recipientAccountId String, eventSource String, eventName String,
        sourceIPAddress String, userAgent String, errorCode String))')
)
GROUP BY hour, identity, account, source, name, address, agent, error
"""
# A narrower question, for comparison: who is told by the ARN alone.
CLOUDTRAIL_CHDB_NARROW = """
SELECT toStartOfHour(toDateTime(substring(r.1, 1, 19))) AS hour, r.2.1 AS arn, r.3 AS source, r.4 AS name, r.5 AS address, r.6 AS agent,
       r.7 AS error, count(), min(r.1), max(r.1)
FROM (
    SELECT arrayJoin(Records) AS r
    FROM file({files}, 'JSONEachRow', 'Records Array(Tuple(eventTime String, userIdentity Tuple(arn String), eventSource String, eventName String,
        sourceIPAddress String, userAgent String, errorCode String))')
)
GROUP BY hour, arn, source, name, address, agent, error
"""
FLOW_COLUMNS = ["version", "account", "interface", "source", "target", "source_port", "target_port", "protocol", "packets", "bytes", "begin", "finish", "action", "status"]
# As an edge: the interface, both addresses, and the service port, which is the lower one.
FLOW_DUCKDB = """
SELECT date_trunc('hour', to_timestamp(TRY_CAST(begin AS BIGINT))) AS hour, interface, source, target,
       least(TRY_CAST(source_port AS INT), TRY_CAST(target_port AS INT)) AS port, protocol, action, count(*), sum(TRY_CAST(packets AS BIGINT)),
       sum(TRY_CAST(bytes AS BIGINT)), min(begin), max(finish)
FROM read_csv({files}, delim = ' ', header = true, auto_detect = false, quote = '', escape = '', columns = {columns})
GROUP BY ALL
"""
# ClickHouse refuses CSV with a space as delimiter.
FLOW_CHDB = """
SELECT toStartOfHour(toDateTime(toUInt32OrZero(f[11]))) AS hour, f[3] AS interface, f[4] AS source, f[5] AS target,
       least(toUInt16OrZero(f[6]), toUInt16OrZero(f[7])) AS port, f[8] AS protocol, f[13] AS action, count(), sum(toUInt64OrZero(f[9])),
       sum(toUInt64OrZero(f[10])), min(f[11]), max(f[12])
FROM (SELECT splitByChar(' ', line) AS f FROM file({files}, 'LineAsString', 'line String') WHERE NOT startsWith(line, 'version'))
GROUP BY hour, interface, source, target, port, protocol, action
"""


def size_of(text):
    number, unit = re.fullmatch(r"([\d.]+)\s*([KMGT]?)B?", text.strip(), re.I).groups()
    return int(float(number) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[unit.upper()])


def literal(text):
    return "'" + str(text).replace("'", "''") + "'"


# A peer, in a process of its own: bench.py peer NAME QUERY_FILE

def run_duckdb(query):
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS})
    connection.execute("SET preserve_insertion_order = false")
    start = time.perf_counter()
    groups = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()[0]
    return time.perf_counter() - start, groups, duckdb.__version__


def run_chdb(query):
    import chdb

    start = time.perf_counter()
    body, _, settings = query.partition("SETTINGS")
    settings = f"max_threads = {THREADS}" + (f", {settings.strip()}" if settings else "")
    groups = int(str(chdb.query(f"SELECT count() FROM ({body}) SETTINGS {settings}", "TabSeparated")).strip())
    return time.perf_counter() - start, groups, chdb.__version__


def peer(name, query_file):
    seconds, groups, version = {"duckdb": run_duckdb, "chdb": run_chdb}[name](pathlib.Path(query_file).read_text())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "groups": groups, "version": version, "memory": memory}))


def measure_peer(name, query, repeat):
    """The best of several runs; None if the peer cannot do it."""
    best = None
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(query)
        file.flush()
        for _ in range(repeat):
            done = subprocess.run([sys.executable, os.path.abspath(__file__), "peer", name, file.name], capture_output=True, text=True)
            if done.returncode != 0:
                print(f"  {name} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:300]}", file=sys.stderr)
                return best
            result = json.loads(done.stdout.splitlines()[-1])
            if best is None or result["seconds"] < best["seconds"]:
                best = result
    return best


# Gumshoe.

def warm(folder):
    """Reads every file once, so that nobody pays for the disk."""
    for path in files_of(folder):
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def measure_parser(program, paths, records):
    """Only parsed."""
    command = [str(pathlib.Path(program).parent / "examples" / "parse"), "sonic", *map(str, paths)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    check(result["records"] == records, f"sonic-rs parsed {result['records']} of {records} records")
    return {"seconds": result["seconds"], "groups": 0, "memory": 0}


def measure_source(program, folder, records, *options):
    """Pulled by the server from a folder, until every object is committed."""
    with Server(program, "--source-directory", str(folder), *options) as server:
        # The clock starts before the source is added, as the server may begin to pull at once.
        start = time.perf_counter()
        server.run("sources", "add", "bench", str(folder), "--lookback", "0s")
        answer = server.json("sources", "sync", "bench")
        seconds, processor = time.perf_counter() - start, server.processor_seconds()
        totals = answer["totals"]
        check(totals["records"] == records and answer["objects_failed"] == 0, f"the source brought {totals['records']} of {records} records")
        edges = server.json("statistics")["edges"]
        return {"seconds": seconds, "groups": edges, "memory": server.peak_memory(), "processor": processor}


def measure_ingest(program, folder, records):
    """Sent by the command line: from its first byte to its last acknowledgement."""
    with Server(program) as server:
        answer = server.json("ingest", str(folder))
        check(answer["totals"]["records"] == records, f"ingest sent {answer['totals']['records']} of {records} records")
        processor = server.processor_seconds()
        return {"seconds": answer["seconds"], "groups": server.json("statistics")["edges"], "memory": server.peak_memory(), "processor": processor}


def check(holds, what):
    if not holds:
        raise SystemExit(f"bench: {what}")


def files_of(folder):
    return sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())


def logs(program, kind, size):
    """Makes the files once; they are the same for the same size."""
    folder = pathlib.Path(os.environ.get("BENCH_FOLDER", os.path.expanduser("~/.cache/gumshoe/bench"))) / f"{kind}-{size}-{FILE_SIZE}-{FILE_MINUTES}min"
    summary = folder.with_suffix(".json")
    if not summary.exists():
        subprocess.run(["rm", "-rf", folder], check=True)
        of = kind.removesuffix("-gzip")
        gzip = ["--gzip"] if kind != of else []
        command = [program, "--output", "json", "generate", *gzip, "--kind", of, "--size", str(size), "--file-size", FILE_SIZE, "--minutes-per-file", FILE_MINUTES, "--out", str(folder)]
        start = time.perf_counter()
        made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        seconds = time.perf_counter() - start
        print(f"made {made['records']:,} {kind} records, {made['bytes'] / 1e6:,.0f} MB, in {seconds:.1f} s: {made['bytes'] / 1e6 / seconds:,.0f} MB/s")
        summary.write_text(json.dumps(made))
    return folder, json.loads(summary.read_text())


def best(measure, repeat):
    results = [measure() for _ in range(repeat)]
    return dict(min(results, key=lambda result: result["seconds"]), memory=max(result["memory"] for result in results))


def bench(program, kind, size, repeat):
    folder, made = logs(program, kind, size)
    paths = files_of(folder)
    warm(folder)
    glob = literal(f"{folder}/AWSLogs/*/*/*/*/*/*/*")
    # What packed files hold is not known: more than any of them.
    largest = 1 << 30 if kind.endswith("-gzip") else max(path.stat().st_size for path in paths) + 1
    if kind.startswith("cloudtrail"):
        peers = {
            "chDB": ("chdb", CLOUDTRAIL_CHDB.format(files=glob), repeat),
            "chDB by ARN": ("chdb", CLOUDTRAIL_CHDB_NARROW.format(files=glob), repeat),
            # Takes minutes; once is enough.
            "DuckDB read_json": ("duckdb", CLOUDTRAIL_DUCKDB.format(files=glob, largest=largest), 1),
            "DuckDB from_json": ("duckdb", CLOUDTRAIL_DUCKDB_FROM_JSON.format(files=glob, largest=largest), repeat),
        }
    else:
        names = ", ".join(f"'{name}': 'VARCHAR'" for name in FLOW_COLUMNS)
        peers = {
            "chDB": ("chdb", FLOW_CHDB.format(files=glob), repeat),
            "DuckDB read_csv": ("duckdb", FLOW_DUCKDB.format(files=glob, columns="{" + names + "}"), repeat),
        }

    print(f"\nGumshoe and others, {kind}: {made['records']:,} records, {made['bytes'] / 1e6:,.0f} MB in {len(paths)} plain files; best of {repeat}, {THREADS} threads", flush=True)
    rows = {name: measure_peer(engine, query, times) for name, (engine, query, times) in peers.items()}
    if kind == "cloudtrail":
        rows["sonic-rs"] = best(lambda: measure_parser(program, paths, made["records"]), repeat)
    rows["source"] = best(lambda: measure_source(program, folder, made["records"]), repeat)
    rows["without text"] = best(lambda: measure_source(program, folder, made["records"], *WITHOUT_TEXT), repeat)
    rows["ingest"] = best(lambda: measure_ingest(program, folder, made["records"]), repeat)
    report(kind, rows, made)
    return {"records": made["records"], "bytes": made["bytes"], "files": len(paths), "rows": rows}


def ratio(rows, name, other):
    one, two = rows.get(name), rows.get(other)
    return two["seconds"] / one["seconds"] if one and two else None


def report(kind, rows, made):
    print(f"  {'':18} {'seconds':>8} {'records/s':>11} {'MB/s':>7} {'x chDB':>7} {'x DuckDB':>9} {'peak memory':>12} {'busy cores':>11} {'groups/edges':>13}")
    duckdb = next(name for name in rows if name.startswith("DuckDB"))
    for name, row in rows.items():
        if row is None:
            print(f"  {name:18} {'failed':>8}")
            continue
        shown = [f"{value:.2f}" if value else "-" for value in (ratio(rows, name, "chDB"), ratio(rows, name, duckdb))]
        print(
            f"  {name:18} {row['seconds']:8.2f} {made['records'] / row['seconds']:11,.0f} {made['bytes'] / 1e6 / row['seconds']:7.0f} "
            f"{shown[0]:>7} {shown[1]:>9} {row['memory'] / (1 << 20):8,.0f} MiB {busy(row):>11} {row['groups']:13,}"
        )
    for name, peer_name, target in TARGETS[kind.removesuffix("-gzip")]:
        value = ratio(rows, name, peer_name)
        if value is not None:
            print(f"  target {kind}: {name} >= {target} x {peer_name}: {value:.2f} {verdict(value >= target)}")
    memory = max(rows[name]["memory"] for name in ("source", "without text", "ingest"))
    print(f"  target {kind}: < {TARGET_MEMORY >> 20} MiB of memory: {memory / (1 << 20):,.0f} MiB {verdict(memory < TARGET_MEMORY)}", flush=True)


def busy(row):
    """How many cores the server kept busy, from its start on."""
    return f"{row['processor'] / row['seconds']:.2f}" if "processor" in row else "-"


def verdict(met):
    return "met" if met else "MISSED"


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown processor")
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return f"{os.cpu_count()} cores, {model}, {memory / (1 << 20):.0f} GiB"


def main():
    if sys.argv[1:2] == ["peer"]:
        return peer(*sys.argv[2:])
    program = binary("release")
    size = size_of(os.environ.get("BENCH_SIZE", "1GB"))
    flow_size = size_of(os.environ["BENCH_FLOW_SIZE"]) if os.environ.get("BENCH_FLOW_SIZE") else size // 4
    repeat = int(os.environ.get("BENCH_REPEAT", "3"))
    print(machine())
    results = {"machine": machine()}
    for kind in os.environ.get("BENCH_KINDS", "cloudtrail,cloudtrail-gzip,vpc-flow").split(","):
        results[kind] = bench(program, kind, flow_size if kind == "vpc-flow" else size, repeat)
    if os.environ.get("BENCH_OUTPUT"):
        pathlib.Path(os.environ["BENCH_OUTPUT"]).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
