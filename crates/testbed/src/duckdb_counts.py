"""What every summary must hold, computed by DuckDB from the records themselves.

usage: duckdb_counts.py check RECORDS.ndjson ANALYTICS_DIR   every count of every summary
       duckdb_counts.py paths RECORDS.ndjson                 two group-bys alone, for measuring
Shares nothing with the aggregator: the fields and their meaning are those of docs/analytics.md.
"""

import json
import pathlib
import sys

import duckdb

COLUMNS = {
    "timestamp": "VARCHAR",
    "path": "VARCHAR",
    "userAgent": "VARCHAR",
    "site": "VARCHAR",
    "method": "VARCHAR",
    "status": "INTEGER",
    "bytes": "BIGINT",
    "durationMs": "DOUBLE",
    "referer": "VARCHAR",
}
HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#\\]*@)?([^/?#\\:@]+)"
MAPS = {
    "requestsPerPath": "path",
    "requestsPerUserAgent": "userAgent",
    "requestsPerMethod": "method",
    "requestsPerReferringHost": "host",
    "requestsPerStatus": "CAST(status AS VARCHAR)",
    "requestsPerStatusClass": "CAST(status // 100 AS VARCHAR) || 'xx'",
}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def records(db, file):
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    return (
        f"read_json('{file}', format='newline_delimited', maximum_object_size=1048576, "
        f"columns={{{columns}}})"
    )


def expected(db, file):
    """By file name and site (None: all of them)."""
    db.execute(
        f"CREATE TABLE r AS SELECT *, replace(timestamp[:13], 'T', ' ') AS hour, "
        f"lower(rtrim(regexp_extract(referer, '{HOST}', 1), '.')) AS from_host "
        f"FROM {records(db, file)}"
    )
    db.execute("ALTER TABLE r ADD COLUMN host VARCHAR")
    db.execute("UPDATE r SET host = CASE WHEN from_host = '' THEN NULL ELSE from_host END")
    db.execute("UPDATE r SET site = NULL WHERE site = ''")
    found = {}
    for unit, name in [
        ("hour", "hour[:10] || '/summary_' || hour[12:13] || '.json'"),
        ("day", "hour[:10] || '/summary.json'"),
    ]:
        for site in ["NULL", "site"]:
            where = "" if site == "NULL" else "WHERE site IS NOT NULL"
            rows = db.execute(
                f"SELECT {name}, {site}, count(*), sum(bytes), count(durationMs) "
                f"FROM r {where} GROUP BY 1, 2"
            ).fetchall()
            for file, of, count, size, durations in rows:
                summary = found.setdefault((file, of), {})
                summary["requests"] = count
                if size is not None:
                    summary["bytes"] = int(size)
                if durations:
                    summary["durationMs"] = {"requests": durations}
            for field, key in MAPS.items():
                rows = db.execute(
                    f"SELECT {name}, {site}, {key} AS k, count(*) FROM r "
                    f"{where or 'WHERE true'} AND ({key}) IS NOT NULL GROUP BY 1, 2, 3"
                ).fetchall()
                for file, of, key, count in rows:
                    found[(file, of)].setdefault(field, {})[key] = count
            for quantile, q in QUANTILES.items():
                rows = db.execute(
                    f"SELECT {name}, {site}, quantile_disc(durationMs, {q}) FROM r "
                    f"{where or 'WHERE true'} AND durationMs IS NOT NULL GROUP BY 1, 2"
                ).fetchall()
                for file, of, value in rows:
                    found[(file, of)]["durationMs"][quantile] = value
    return found


def stands(analytics):
    found = {}
    for file in sorted(pathlib.Path(analytics).glob("????-??-??/summary*.json")):
        summary = json.loads(file.read_text())
        name = f"{file.parent.name}/{file.name}"
        found[(name, None)] = summary
        for site, of in summary["sites"].items():
            found[(name, site)] = of
    return found


def differences(right, found):
    if set(right) != set(found):
        yield f"summaries of {sorted(map(str, set(right) ^ set(found)))[:5]}"
    for place, right in right.items():
        summary = found.get(place, {})
        for field in ["requests", "bytes", *MAPS]:
            if right.get(field) != summary.get(field):
                yield f"{place} {field}: {right.get(field)!s:.300} not {summary.get(field)!s:.300}"
        for dimension, accuracy in summary.get("accuracy", {}).items():
            if not accuracy["exact"]:
                yield f"{place} {dimension} is not exact"
        if sum(summary["requestsPerClient"].values()) != right["requests"]:
            yield f"{place} requestsPerClient: {summary['requestsPerClient']}"
        bots = sum(bot["requests"] for bot in summary["requestsPerBot"].values())
        if bots != summary["requestsPerClient"]["bot"]:
            yield f"{place} requestsPerBot: {bots}"
        one, other = right.get("durationMs"), summary.get("durationMs")
        if (one is None) != (other is None):
            yield f"{place} durationMs"
        elif one is not None:
            if one["requests"] != other["requests"]:
                yield f"{place} durationMs: {one} not {other}"
            for quantile in QUANTILES:
                if abs(one[quantile] - other[quantile]) > other["relativeError"] * one[quantile] + 1e-6:
                    yield f"{place} {quantile}: {one[quantile]} not {other[quantile]}"


def main():
    command, file = sys.argv[1:3]
    db = duckdb.connect()
    db.execute("SET threads = 1")
    if command == "paths":
        for key in ["path", "userAgent"]:
            rows = db.execute(
                f"SELECT timestamp[:13], {key}, count(*) FROM {records(db, file)} GROUP BY 1, 2"
            ).fetchall()
            print(len(rows))
        return
    right = expected(db, file)
    wrong = list(differences(right, stands(sys.argv[3])))
    for difference in wrong[:20]:
        print(difference)
    print(f"{len(right)} summaries and sites compared, {len(wrong)} differences")
    sys.exit(1 if wrong else 0)


main()
