"""DuckDB on an archive while it grows, and at its end; and who the load's agents are.

usage: archive.py look ARCHIVE ANALYTICS      again and again until its input ends; a line each time
       archive.py rows ARCHIVE RECORDS.ndjson  that both hold the same records, field by field
       archive.py clients RECORDS.ndjson ANALYTICS  who asked, of every hour, day and site
What is older than 2000 is not looked at: retention removes it meanwhile.
"""

import collections
import glob
import json
import os
import select
import sys

import duckdb

# How each column of the archive follows from a stored line.
TEXT = ["site", "path", "userAgent", "method", "remoteAddr", "referer", "protocol"]
NUMBERS = {"status": "INTEGER", "bytes": "BIGINT", "durationMs": "DOUBLE"}
# What each agent of the load is, by what is in it.
CLIENTS = [
    ("Googlebot/", "bot", "Googlebot"),
    ("GPTBot/", "bot", "GPTBot"),
    ("curl/", "bot", "curl"),
    ("Feedly/", "bot", "Feedly"),
    ("Firefox/", "human", None),
    ("Chrome/", "human", None),
]


def roots(archive):
    return [archive, archive + "-aside"]


def patterns(archive):
    found = [f"{root}/date=2*/**/*.parquet" for root in roots(archive)]
    return [pattern for pattern in found if glob.glob(pattern, recursive=True)]


def allowed(analytics):
    """Rows that may be in files by the greatest manifest: archived, or in its plan."""
    for name in sorted(glob.glob(f"{analytics}/_state/m*.json"), reverse=True):
        try:
            with open(name) as file:
                archive = json.load(file)["archive"]
        except FileNotFoundError:
            continue
        return archive["archived"] + sum(file["records"] for file in archive["plan"])
    return None


def look(archive, analytics):
    db = duckdb.connect()
    db.execute("SET threads = 1")
    rows, files, last = 0, {}, False
    while not last:
        last = bool(select.select([sys.stdin], [], [], 0.02)[0])
        found = patterns(archive)
        if not found:
            continue
        seen = db.execute(
            """SELECT count(*), count(DISTINCT (topic, "partition", "offset")), bit_xor(hash(r))
               FROM read_parquet($1) r""",
            [found],
        ).fetchone()
        if seen[0] != seen[1]:
            sys.exit(f"{seen[0]} rows, but only {seen[1]} records: some are there twice")
        if seen[0] < rows:
            sys.exit(f"{seen[0]} rows, there were {rows} before")
        rows = seen[0]
        most = allowed(analytics)
        if most is not None and rows > most:
            sys.exit(f"{rows} rows, but the manifest knows of {most} archived and planned")
        now = {}
        for pattern in found:
            for name in glob.glob(pattern, recursive=True):
                about = os.stat(name)
                now[name] = (about.st_ino, about.st_size, about.st_mtime_ns)
        for name, about in files.items():
            if now.get(name) != about:
                sys.exit(f"{name} was {about}, and is {now.get(name)}")
        files = now
        print(rows, len(files), flush=True)


def rows(archive, records):
    db = duckdb.connect()
    db.execute("SET threads = 1; SET timezone = 'UTC'")
    columns = {"timestamp": "TIMESTAMPTZ", **{name: "VARCHAR" for name in TEXT}, **NUMBERS}
    kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    names = ", ".join(f'"{name}"' for name in [*TEXT, *NUMBERS])
    names += ', epoch_us("timestamp") AS us'
    db.execute(
        f"""CREATE TABLE stored AS SELECT {names} FROM read_json('{records}',
            format='newline_delimited', maximum_object_size=1048576, columns={{{kinds}}})
            WHERE "timestamp" >= '2000-01-01'"""
    )
    db.execute(
        f"""CREATE TABLE archived AS SELECT {names} FROM
            read_parquet({patterns(archive)}, hive_partitioning = false)"""
    )
    for one, other in [("stored", "archived"), ("archived", "stored")]:
        only = db.execute(f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}").fetchall()
        if only:
            sys.exit(f"{len(only)} records are only {one}: {only[:3]}")
    count = db.execute("SELECT count(*) FROM archived").fetchone()[0]
    print(f"{count} records archived as they were stored")


def clients(records, analytics):
    groups = duckdb.execute(
        f"""SELECT "timestamp"[:10], "timestamp"[12:13], site, "userAgent", count(*)
            FROM read_json('{records}', format='newline_delimited', maximum_object_size=1048576,
            columns={{'timestamp': 'VARCHAR', 'site': 'VARCHAR', 'userAgent': 'VARCHAR'}})
            GROUP BY ALL"""
    ).fetchall()
    right = collections.defaultdict(collections.Counter)
    for day, hour, site, agent, count in groups:
        kind, name = next((kind, name) for sign, kind, name in CLIENTS if sign in agent)
        for file in [f"{day}/summary_{hour}.json", f"{day}/summary.json"]:
            for of in {None, site}:
                right[file, of][kind] += count
                if name:
                    right[file, of]["bot", name] += count
    found = {}
    for file in glob.glob(f"{analytics}/????-??-??/summary*.json"):
        with open(file) as opened:
            summary = json.load(opened)
        for of, counts in [(None, summary), *summary["sites"].items()]:
            seen = {kind: count for kind, count in counts["requestsPerClient"].items() if count}
            for name, bot in counts["requestsPerBot"].items():
                seen["bot", name] = bot["requests"]
            found[os.path.relpath(file, analytics), of] = seen
    wrong = [at for at in right.keys() | found.keys() if right.get(at) != found.get(at)]
    if wrong:
        at = min(wrong, key=str)
        sys.exit(f"{len(wrong)} differ, as {at}: {dict(right[at])}, not {found.get(at)}")
    print(f"clients and bots of {len(found)} too")


{"look": look, "rows": rows, "clients": clients}[sys.argv[1]](*sys.argv[2:])
