"""The lake as other engines read it while it is maintained: delta-rs its tables, DuckDB the plain files that they name."""

import json
import pathlib

import duckdb
from deltalake import DeltaTable, QueryBuilder
from installation import eventually, start

TABLES = ["events", "edges", "entities", "findings", "dead_letters", "volumes", "batches"]
KEY = "hour, entity_type, entity_id, side, relation, peer_type, peer_id, operation, address, country, asn, user_agent, error, port, protocol"


def rows(reader):
    """The rows of a result of delta-rs as tuples."""
    table = reader.read_all()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


class Lake:
    """The tables of the only graph in a lake."""

    def __init__(self, folder):
        (self.graph,) = pathlib.Path(folder).iterdir()

    def table(self, name):
        return DeltaTable(str(self.graph / name))

    def delta(self, name, select):
        """What delta-rs says."""
        return rows(QueryBuilder().register("t", self.table(name)).execute(f"{select.format(table='t')}"))

    def duckdb(self, name, select):
        """What DuckDB says of the files that the table has now."""
        files = self.table(name).file_uris()
        if not files:
            return [(0,)]
        return duckdb.sql(select.format(table=f"read_parquet({files!r}, hive_partitioning = true)")).fetchall()

    def both(self, name, select):
        """What both say, which must be the same."""
        one, other = sorted(self.delta(name, select)), sorted(self.duckdb(name, select))
        assert [tuple(row) for row in one] == [tuple(row) for row in other], f"{name}: {select}"
        return one

    def count(self, name):
        ((count,),) = self.both(name, "select count(*) from {table}")
        actions = self.table(name).get_add_actions(flatten=True)
        assert sum(actions.column("num_records").to_pylist()) == count, f"the log of {name} counts other rows"
        return count

    def files(self, name):
        return [uri.rsplit("/", 1)[-1] for uri in self.table(name).file_uris()]


def statistics(server):
    """What the service says, by the lake's names."""
    said = server.json("statistics")
    kinds = {kind["kind"].removeprefix("RECORD_KIND_").lower(): int(kind["events"]) for kind in said["kinds"]}
    entities = {kind: int(number) for kind, number in said["entities"].items()}
    return kinds, entities, {name: int(said.get(name, 0)) for name in ("edges", "findings", "dead_letters")}


def fill(server, folder):
    """Many small batches of several formats, with one that is broken."""
    server.run("generate", "--kind", "mixed", "--records", "3000", "--seed", "5", "--out", str(folder), "--file-size", "200KB", "--days", "2")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 8
    broken = folder / "broken.json"
    broken.write_text(json.dumps({"Records": [{"eventName": 1}, {"eventName": 2}]}))
    for path in [*files, broken]:
        server.run("ingest", str(path))


def test_other_engines_read_the_same_before_and_after_merging(tmp_path, monkeypatch):
    data = tmp_path / "server"
    data.mkdir()
    with start("graph.maintenance.enabled=false", folder=str(data)) as server:
        fill(server, tmp_path / "logs")
        lake = Lake(data / "data" / "lake")
        kinds, entities, numbers = statistics(server)
        assert len(kinds) == 4
        assert len(lake.files("edges")) > 8
        assert not [name for name in lake.files("edges") if name.startswith("run-")]
        before = {name: lake.count(name) for name in TABLES}
        assert numbers["edges"] == before["edges"]
        sums = lake.both("edges", f"select {KEY}, sum(count), sum(bytes_in), min(first_time), max(last_time) from {{table}} group by {KEY}")
        texts = lake.both("events", "select event_id, kind, batch_id, raw from {table}")
        # The numbers that a graph is known by.
        assert dict(lake.both("events", "select kind, count(*) from {table} group by kind")) == kinds
        distinct = "select entity_type, count(distinct entity_id) from {table} group by entity_type"
        assert dict(lake.both("entities", distinct)) == entities
        assert lake.both("findings", "select count(distinct finding_id) from {table}") == [(numbers["findings"],)]
        assert numbers["dead_letters"] == before["dead_letters"] == 2
        assert lake.both("events", "select count(*) from {table} where date <> cast(time as date)") == [(0,)]
        # Shown on first start only.
        monkeypatch.setenv("GUMSHOE_ACCESS_KEY_ID", server.access_key_id)
        monkeypatch.setenv("GUMSHOE_SECRET_ACCESS_KEY", server.secret_access_key)

    with start("graph.maintenance.interval_seconds=1", "graph.maintenance.min_files=2", folder=str(data)) as server:

        def merged():
            days = {}
            for name in ("edges", "events", "entities", "batches"):
                for uri in lake.table(name).file_uris():
                    days.setdefault(uri.rsplit("/", 1)[0], []).append(uri.rsplit("/", 1)[-1])
            return all(len(names) < 6 for names in days.values()) and any(name.startswith("run-") for name in lake.files("entities"))

        eventually(merged, 60)
        assert [entry for entry in lake.table("edges").history() if entry["operation"] == "OPTIMIZE"]
        # Between the statistics and the reading, another merge may come.
        eventually(lambda: statistics(server)[2]["edges"] == lake.count("edges"), 60)
        assert lake.count("edges") <= before["edges"]
        for name in ("events", "findings", "dead_letters", "volumes", "batches"):
            assert lake.count(name) == before[name], name
        assert statistics(server)[:2] == (kinds, entities)
        assert dict(lake.both("entities", distinct)) == entities
        assert lake.both("edges", f"select {KEY}, sum(count), sum(bytes_in), min(first_time), max(last_time) from {{table}} group by {KEY}") == sums
        assert lake.both("events", "select event_id, kind, batch_id, raw from {table}") == texts


def test_only_the_texts_of_findings_are_kept_when_told_so(tmp_path):
    data = tmp_path / "server"
    data.mkdir()
    with start("ingest.batches.keep_text=false", folder=str(data)) as server:
        fill(server, tmp_path / "logs")
        lake = Lake(data / "data" / "lake")
        kinds, _, numbers = statistics(server)
        texts = dict(lake.both("events", "select kind, count(*) from {table} where raw <> '' group by kind"))
        assert texts == {kind: count for kind, count in kinds.items() if kind in ("guardduty", "security_hub")}
        assert lake.both("events", "select count(*) from {table} where length = 0") == [(0,)]
        assert lake.both("findings", "select count(*) from {table} where raw = ''") == [(0,)]
        assert numbers["findings"] > 0
