#!/usr/bin/env python3
"""How a lake of a year is read: profiles of 24 hours, investigations and neighbours, asked of a running server over gRPC, side by side with DuckDB,
which sums the same rows of the same Parquet files.

The lake is written by libs/lake/examples/year, once a size. Entities taken at random are asked for, each once, of a server that has
just started; then again, so that what is known of files is known, but no answer is. DuckDB is told the hours to look at and reads only the files of those days; the server finds them out itself, and
also says what is known of the entity, how many days its account has records, and which findings name it.

Environment: BENCH_EDGES (10000000,100000000), BENCH_QUERIES (300), BENCH_FOLDER (~/.cache/gumshoe/bench), BENCH_READ_OUTPUT (a
file for the results as JSON), BENCH_YEAR (the program that writes the lake).
"""

import json
import os
import pathlib
import subprocess
import sys
import time

from bench import check, machine, verdict
from gumshoe import Server, binary

THREADS = 2
TARGET_PROFILE = 0.050
TARGET_GROWTH = 1.3
TARGET_HUB = 0.300
TARGET_INVESTIGATION = 2.0
# States of investigations as gumshoe.investigation.v1 numbers them.
RUNNING, SUCCESSFUL = 1, 3
PRINCIPALS = ("role", "role_session")
# Types of entities as gumshoe.common.v1 numbers them.
TYPES = {
    "account": 1, "role": 3, "role_session": 4, "aws_service": 7, "access_key": 8, "ip_address": 9, "network_interface": 11, "resource": 13, "user_agent": 14,
}
# The lists of a profile as groups of the entity's edges in scope and baseline.
QUERY = """
SELECT grouping_id(operation, address, user_agent, error, peer_id, hour) AS kind, operation, address, user_agent, error, peer_type, peer_id,
       relation, port, protocol, hour, max(country), max(asn), min(hour) >= {scope} AS new, sum(count) FILTER (hour >= {scope}),
       sum(errors) FILTER (hour >= {scope}), sum(bytes_in) FILTER (hour >= {scope}), sum(bytes_out) FILTER (hour >= {scope}),
       sum(packets_in) FILTER (hour >= {scope}), sum(packets_out) FILTER (hour >= {scope}), min(first_time) FILTER (hour >= {scope}),
       max(last_time) FILTER (hour >= {scope})
FROM read_parquet({files}, hive_partitioning = false)
WHERE entity_type = {type} AND entity_id = {id} AND hour >= {start} AND hour < {end}
GROUP BY GROUPING SETS ((operation), (address), (user_agent), (error), (peer_type, peer_id, relation, port, protocol), (hour))
"""


# As much of protobuf as the requests need.

def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value if value else b""


def fields(message):
    """Numbers and values of a message's fields."""
    place = 0

    def read():
        nonlocal place
        number = shift = 0
        while True:
            byte = message[place]
            place += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while place < len(message):
        key = read()
        if key & 7 == 0:
            yield key >> 3, read()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or read()
            yield key >> 3, message[place:place + length]
            place += length


def first(message, number):
    return next((value for key, value in fields(message) if key == number), b"")


def entity(sample):
    return field(1, TYPES[sample["type"]]) + field(2, sample["id"])


class Client:
    """Calls of the graph's readers, timed."""

    def __init__(self, server):
        import grpc

        self.channel = grpc.insecure_channel(server.endpoint.split("://", 1)[1])
        self.metadata = [("authorization", f"Bearer {server.token()}")]
        self.graph = server.graph
        # The connection is there before the first call.
        grpc.channel_ready_future(self.channel).result(10)

    def call(self, method, request, service="gumshoe.graph.v1.GraphService"):
        call = self.channel.unary_unary(f"/{service}/{method}")
        start = time.perf_counter()
        answer = call(field(1, self.graph) + request, metadata=self.metadata, timeout=60)
        return time.perf_counter() - start, answer

    def profile(self, sample, list_size):
        seconds, answer = self.call("GetEntityProfile", field(2, entity(sample)) + field(4, list_size))
        profile = first(answer, 1)
        start, end = (first(first(first(profile, 8), number), 1) for number in (1, 2))
        return seconds, {"start": start, "end": end}

    def investigation(self, sample, window):
        """Seconds from the call that starts an investigation of a principal to the answer that it is done."""
        service = "gumshoe.investigation.v1.InvestigationService"
        time_of = lambda number, seconds: field(number, field(1, seconds))
        scope = time_of(1, window["start"]) + time_of(2, window["end"])
        begin = time.perf_counter()
        _, started = self.call("StartInvestigation", field(3, scope) + field(5, entity(sample)), service)
        while True:
            _, answer = self.call("GetInvestigation", field(2, first(started, 1)), service)
            status = first(first(answer, 1), 6)
            if status != RUNNING:
                check(status == SUCCESSFUL, f"an investigation of {sample['id']} has failed")
                return time.perf_counter() - begin
            time.sleep(0.002)

    def neighbors(self, sample, token=b""):
        seconds, answer = self.call("ListNeighbors", field(2, entity(sample)) + field(8, token))
        return seconds, first(answer, 2), sum(1 for number, _ in fields(answer) if number == 1)


def quantiles(seconds):
    ordered = sorted(seconds)
    at = lambda part: ordered[min(len(ordered) - 1, int(len(ordered) * part))]
    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": ordered[-1], "first": seconds[0], "count": len(seconds)}


def lake_of(program, edges):
    """The folder with the lake of so many edges, and what to ask for."""
    folder = pathlib.Path(os.environ.get("BENCH_FOLDER", os.path.expanduser("~/.cache/gumshoe/bench"))) / f"year-{edges}"
    sample = folder / "sample.json"
    if not sample.exists():
        subprocess.run(["rm", "-rf", folder], check=True)
        folder.mkdir(parents=True)
        # The first start makes the graph.
        with Server(program, folder=str(folder)) as server:
            graph = server.graph
        year = os.environ.get("BENCH_YEAR") or pathlib.Path(program).parent / "examples" / "year"
        made = subprocess.run([year, f"file://{folder}/data/lake", graph, str(edges), sample], check=True, capture_output=True, text=True)
        made = json.loads(made.stdout.splitlines()[-1])
        print(f"made {made['edges']:,} edges of {made['entities']:,} entities in {made['seconds']:,.0f} s", flush=True)
    return folder, json.loads(sample.read_text())


def serve(program, folder):
    # Nothing is merged while it is measured, and investigations follow each other as they are asked for.
    settings = {"GUMSHOE_GRAPH__MAINTENANCE__ENABLED": "false", "GUMSHOE_GATEWAY__LIMITS__INVESTIGATIONS_PER_SECOND": "100000"}
    return Server(program, folder=str(folder), settings=settings)


def bench(program, edges, queries):
    folder, sample = lake_of(program, edges)
    asked = sample["any"][:queries]
    files = sorted((folder / "data/lake").glob("*/edges/date=*/*.parquet"))
    print(f"\n{sample['edges']:,} edges of a year in {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:,.0f} MB", flush=True)
    results, windows = {}, []
    with serve(program, folder) as server:
        client = Client(server)
        answers = [client.profile(one, 50) for one in asked]
        windows = [answer for _, answer in answers]
        results["profile, cold"] = quantiles([seconds for seconds, _ in answers])
        results["profile, warm"] = quantiles([client.profile(one, 49)[0] for one in asked])
        results["profile of the busiest"] = quantiles([client.profile(one, 50)[0] for one in sample["busy"]])
        results["memory"] = server.peak_memory()
    with serve(program, folder) as server:
        client = Client(server)
        principals = [(one, window) for one, (_, window) in zip(asked, answers) if one["type"] in PRINCIPALS]
        check(len(principals) > 10, "there are principals to investigate")
        results["investigation of 24 h"] = quantiles([client.investigation(*one) for one in principals[: queries // 3]])
    with serve(program, folder) as server:
        client = Client(server)
        # What it costs to open a lake is in the first profile above.
        results["neighbours of anyone"] = quantiles([client.neighbors(one)[0] for one in asked])
        hub, later, token = [], [], b""
        for _ in range(queries // 3):
            seconds, token, count = client.neighbors(sample["hub"])
            check(count == 100 and token, "the hub has more than a page of neighbours")
            hub.append(seconds)
        for _ in range(queries // 3):
            seconds, token, _ = client.neighbors(sample["hub"], token)
            later.append(seconds)
        results["neighbours of the hub"] = quantiles(hub)
        results["later pages"] = quantiles(later)
    results["profile, DuckDB cold"], results["profile, DuckDB warm"] = measure_duckdb(files, list(zip(asked, windows)))
    report(results)
    return results


# DuckDB, in a process of its own: read.py peer QUERIES_FILE

def measure_duckdb(files, asked):
    days = {path.parent.name.removeprefix("date="): [] for path in files}
    for path in files:
        days[path.parent.name.removeprefix("date=")].append(str(path))
    queries = []
    for sample, window in asked:
        start, end = window["start"], window["end"]
        before = start - 45 * 86_400
        wanted = [path for day, paths in days.items() if before - 86_400 < day_start(day) < end for path in paths]
        times = {name: f"make_timestamptz({value * 1_000_000})" for name, value in (("scope", start), ("start", before), ("end", end))}
        literal = lambda text: "'" + text.replace("'", "''") + "'"
        queries.append(QUERY.format(files=json.dumps(wanted).replace('"', "'"), type=literal(sample["type"]), id=literal(sample["id"]), **times))
    done = subprocess.run([sys.executable, os.path.abspath(__file__), "peer"], input=json.dumps(queries), capture_output=True, text=True)
    check(done.returncode == 0, f"DuckDB failed: {done.stderr[-500:]}")
    cold, warm = json.loads(done.stdout.splitlines()[-1])
    return quantiles(cold), quantiles(warm)


def day_start(day):
    return time.mktime(time.strptime(day + " UTC", "%Y-%m-%d %Z")) - time.timezone


def peer():
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS})
    queries, rounds = json.load(sys.stdin), []
    for round_ in ("cold", "warm"):
        if round_ == "warm":
            connection.execute("SET parquet_metadata_cache = true")
            connection.execute(queries[0]).fetchall()
        seconds = []
        for query in queries:
            start = time.perf_counter()
            connection.execute(query).fetchall()
            seconds.append(time.perf_counter() - start)
        rounds.append(seconds)
    print(json.dumps(rounds))


def report(results):
    print(f"  {'milliseconds':26} {'p50':>8} {'p90':>8} {'p99':>8} {'most':>8} {'first':>8}")
    for name, row in results.items():
        if isinstance(row, dict):
            print(f"  {name:26} " + " ".join(f"{row[part] * 1e3:8.1f}" for part in ("p50", "p90", "p99", "max", "first")))
    profile, hub, duckdb = results["profile, cold"]["p99"], results["neighbours of the hub"]["p99"], results["profile, DuckDB cold"]["p99"]
    print(f"  peak memory of the server: {results['memory'] / (1 << 20):,.0f} MiB")
    print(f"  target: a profile in a cold process, p99 < {TARGET_PROFILE * 1e3:.0f} ms: {profile * 1e3:.1f} {verdict(profile < TARGET_PROFILE)}")
    print(f"  target: and under DuckDB's {duckdb * 1e3:.1f} ms: {duckdb / profile:.1f} times as fast {verdict(profile < duckdb)}")
    investigation = results["investigation of 24 h"]["max"]
    print(f"  target: every investigation of 24 h against 45 days < {TARGET_INVESTIGATION:.0f} s: {investigation:.2f} s {verdict(investigation < TARGET_INVESTIGATION)}")
    print(f"  target: neighbours of a hub of a million edges, p99 < {TARGET_HUB * 1e3:.0f} ms: {hub * 1e3:.1f} {verdict(hub < TARGET_HUB)}", flush=True)


def main():
    if sys.argv[1:2] == ["peer"]:
        return peer()
    program = binary("release")
    sizes = [int(size) for size in os.environ.get("BENCH_EDGES", "10000000,100000000").split(",")]
    queries = int(os.environ.get("BENCH_QUERIES", "300"))
    print(machine())
    results = {str(size): bench(program, size, queries) for size in sizes}
    for name in ("profile, cold", "profile, warm", "neighbours of the hub", "neighbours of anyone") if len(sizes) > 1 else ():
        small, large = (results[str(size)][name] for size in (sizes[0], sizes[-1]))
        growth = {part: large[part] / small[part] for part in ("p50", "p99")}
        met = f" {verdict(growth['p99'] < TARGET_GROWTH)}" if name == "profile, cold" else ""
        print(f"  growth from {sizes[0]:,} to {sizes[-1]:,} edges, {name}: p50 {growth['p50']:.2f}, p99 {growth['p99']:.2f} times{met}")
    if os.environ.get("BENCH_READ_OUTPUT"):
        pathlib.Path(os.environ["BENCH_READ_OUTPUT"]).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
