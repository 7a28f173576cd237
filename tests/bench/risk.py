#!/usr/bin/env python3
"""`GetRisk` side by side with tonic's bare hello world, called in the same way on the same machine: requests a second and latency.

It is measured through the gateway of `gumshoe serve`, with policies and audit log, and straight to the graph service; and, for
what it says about hot profiles, through the gateway while logs are ingested. All with the logs of a default configuration, written to
a file. The callers (tests/load) take their share of the processors, the same of each. Rounds take turns, and the median counts.

Environment: BENCH_RISK_SIZE (60MB), BENCH_RISK_ENTITIES (1000), BENCH_RISK_ROUNDS (3), BENCH_RISK_SECONDS (5), BENCH_RISK_CALLS at once
(64), BENCH_OUTPUT (a file for the results as JSON).
"""

import datetime
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time
import tomllib

from bench import machine, verdict
from gumshoe import Server, binary

SIZE = os.environ.get("BENCH_RISK_SIZE", "60MB")
ENTITIES = int(os.environ.get("BENCH_RISK_ENTITIES", "1000"))
ROUNDS = int(os.environ.get("BENCH_RISK_ROUNDS", "3"))
SECONDS = os.environ.get("BENCH_RISK_SECONDS", "5")
CALLS = os.environ.get("BENCH_RISK_CALLS", "64")
TARGETS = {"gateway": (0.6, 3.0), "graph": (0.8, None)}
DAYS = 30


def call(load, *arguments):
    command = [load, "--seconds", SECONDS, "--calls", CALLS, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Hello:
    """tonic's hello world."""

    def __init__(self, load):
        self.load = load
        self.address = "127.0.0.1:50951"

    def __enter__(self):
        self.process = subprocess.Popen([self.load, "serve", self.address], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def measure(self):
        return call(self.load, "hello", f"http://{self.address}")


class Graph:
    """The graph service alone, on what `gumshoe serve` has left."""

    def __init__(self, program, data):
        self.program, self.data = program, pathlib.Path(data)
        self.address = "127.0.0.1:50952"

    def __enter__(self):
        configuration = self.data / "graph.toml"
        configuration.write_text(
            f'[listen]\naddress = "{self.address}"\n[trust]\nissuers = "{self.data}/keys/issuers"\n[lake]\nurl = "file://{self.data}/lake"\n'
            f'[store]\nurl = "sqlite://{self.data}/graph.sqlite"\n[maintenance]\nenabled = false\n'
        )
        log = open(self.data / "graph.log", "w")
        self.process = subprocess.Popen([self.program, "serve", "--config", str(configuration)], stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def rounds(measure_hello, measure):
    """Both by turns."""
    pairs = [(measure_hello(), measure()) for _ in range(ROUNDS)]
    median = lambda which, key: statistics.median(pair[which][key] for pair in pairs)
    rows = [{key: median(which, key) for key in ("calls_per_second", "p50_us", "p99_us")} for which in (0, 1)]
    rows[1]["x_calls"] = statistics.median(there["calls_per_second"] / hello["calls_per_second"] for hello, there in pairs)
    rows[1]["x_p99"] = statistics.median(there["p99_us"] / hello["p99_us"] for hello, there in pairs)
    return rows


def show(name, row):
    ratios = f"{row['x_calls']:9.2f} {row['x_p99']:9.2f}" if "x_calls" in row else ""
    print(f"  {name:32} {row['calls_per_second']:12,.0f} {row['p50_us']:9,.0f} {row['p99_us']:9,.0f} {ratios}", flush=True)


def wait(load, arguments):
    """Until the service answers."""
    for _ in range(100):
        done = subprocess.run([load, "--seconds", "1", "--calls", "1", *arguments], capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(0.3)
    raise SystemExit(f"bench: the service does not answer: {done.stderr}")


def warm(measure):
    """Until all that is asked for is hot: asked for one by one, an entity takes some ten milliseconds to build."""
    before, now = 0.0, measure()
    for _ in range(20):
        if now < 1.2 * before:
            return
        before, now = now, measure()


def main():
    program = binary("release")
    target = pathlib.Path(program).parent
    load, graph_program = str(target / "examples" / "load"), str(target / "gumshoe-graph")
    print(machine())
    results = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="gumshoe-risk-") as folder, Hello(load) as hello:
        start = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=DAYS - 1)).strftime("%Y-%m-%d")
        logs = os.path.join(folder, "logs")
        generate = [program, "generate", "--kind", "mixed", "--size", SIZE, "--days", str(DAYS), "--start", start, "--gzip", "--out", logs]
        subprocess.run(generate, check=True, capture_output=True)
        entities = os.path.join(folder, "entities")
        with Server(program, folder=folder) as server:
            server.run("ingest", logs)
            found = server.json("search", "*", "--limit", str(ENTITIES), *(part for kind in ("user", "role", "role_session", "ip_address", "account") for part in ("--type", kind)))
            names = [f"{entity['entity']['type'].removeprefix('ENTITY_TYPE_').lower()}:{entity['entity']['id']}" for entity in found["entities"]]
            pathlib.Path(entities).write_text("".join(f"{name}\n" for name in names))
            begun = time.perf_counter()
            risks = [risk for at in range(0, len(names), 100) for risk in server.json("risk", *names[at : at + 100])["risks"]]
            print(f"{len(names)} entities, {sum(risk['score'] > 0 for risk in risks)} with a risk, built in {time.perf_counter() - begun:.1f} s; {CALLS} calls at once")
            with open(os.path.join(folder, "config", "gumshoe", "credentials.toml"), "rb") as file:
                token = find_token(tomllib.load(file))
            print(f"  {'':32} {'calls/s':>12} {'p50 us':>9} {'p99 us':>9} {'x calls':>9} {'x p99':>9}")
            gateway = ["risk", server.endpoint, server.graph, entities, "bearer", token]
            results["hello"], results["gateway"] = rounds(hello.measure, lambda: call(load, *gateway))
            show("hello world", results["hello"])
            show("GetRisk through the gateway", results["gateway"])

            more = os.path.join(folder, "more")
            today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
            subprocess.run([program, "generate", "--kind", "cloudtrail", "--size", "400MB", "--start", today, "--seed", "2", "--out", more], check=True, capture_output=True)
            ingest = threading.Thread(target=lambda: server.run("ingest", more))
            ingest.start()
            results["ingest"] = call(load, *gateway)
            show("the same during ingest", results["ingest"])
            ingest.join()
            server_graph = server.graph
        with Graph(graph_program, os.path.join(folder, "data")) as graph:
            straight = ["risk", f"http://{graph.address}", server_graph, entities, "key", os.path.join(folder, "data", "keys", "gateway.pem")]
            wait(load, straight)
            warm(lambda: call(load, *straight)["calls_per_second"])
            results["hello again"], results["graph"] = rounds(hello.measure, lambda: call(load, *straight))
            show("hello world", results["hello again"])
            show("GetRisk straight to graph", results["graph"])
    for name, (calls, latency) in TARGETS.items():
        row = results[name]
        print(f"  target {name}: >= {calls} x hello world's calls: {row['x_calls']:.2f} {verdict(row['x_calls'] >= calls)}")
        if latency:
            print(f"  target {name}: < {latency} x hello world's p99: {row['x_p99']:.2f} {verdict(row['x_p99'] < latency)}")
    if os.environ.get("BENCH_OUTPUT"):
        pathlib.Path(os.environ["BENCH_OUTPUT"]).write_text(json.dumps(results, indent=2) + "\n")


def find_token(tree):
    """The bearer token, wherever the command line keeps it."""
    for key, value in tree.items():
        found = find_token(value) if isinstance(value, dict) else value if key == "token" else None
        if found:
            return found
    return None


if __name__ == "__main__":
    main()
