"""What every summary must hold, computed by DuckDB from the records themselves.

usage: duckdb_counts.py check RECORDS ANALYTICS_DIR [CLASSES]  every count of every summary
       duckdb_counts.py agents RECORDS                         all user agents, each on a line
       duckdb_counts.py paths RECORDS                          two group-bys alone, for measuring
RECORDS is a file of NDJSON or the directory of an archive. CLASSES says of each agent what it is,
NDJSON with agent, class, name, operator and purpose; without it, clients are only added up.
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
STATUS_CLASS = "CAST(status // 100 AS VARCHAR) || 'xx'"
MAPS = {
    "requestsPerPath": "path",
    "requestsPerUserAgent": "userAgent",
    "requestsPerMethod": "method",
    "requestsPerReferringHost": "CASE WHEN host <> '' THEN host END",
    "requestsPerStatus": "CAST(status AS VARCHAR)",
    "requestsPerStatusClass": STATUS_CLASS,
}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
KINDS = ["human", "bot", "unknown", "empty"]
DAYS_EACH = 10


def records(file):
    """A table function with COLUMNS."""
    if pathlib.Path(file).is_dir():
        columns = ", ".join(name for name in COLUMNS if name != "timestamp")
        return (
            f"""(SELECT strftime("timestamp" AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S') AS timestamp, """
            f"""{columns}, "date", "hour" FROM read_parquet('{file}/**/*.parquet', hive_partitioning = true))"""
        )
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    return (
        f"read_json('{file}', format='newline_delimited', maximum_object_size=1048576, "
        f"columns={{{columns}}})"
    )


def load(db, file, classes):
    """All records, with their day and hour and what their agent is."""
    if pathlib.Path(file).is_dir():
        wrong = db.execute(
            f"""SELECT count(*) FROM {records(file)} WHERE timestamp[:10] <> CAST("date" AS VARCHAR)
                OR CAST(timestamp[12:13] AS INTEGER) <> CAST("hour" AS INTEGER)"""
        ).fetchone()[0]
        if wrong:
            raise SystemExit(f"{wrong} rows of the archive are not of their file's hour")
    if classes:
        columns = {name: "VARCHAR" for name in ["agent", "class", "name", "operator", "purpose"]}
        db.execute(f"CREATE TABLE classes AS FROM read_json('{classes}', columns={columns})")
    else:
        db.execute("CREATE TABLE classes (agent VARCHAR, class VARCHAR, name VARCHAR, operator VARCHAR, purpose VARCHAR)")
    names = ", ".join(COLUMNS)
    db.execute(
        f"CREATE TABLE r AS SELECT timestamp[:10] AS day, timestamp[12:13] AS hour, {names}, "
        f"lower(rtrim(regexp_extract(referer, '{HOST}', 1), '.')) AS host, class, name, operator, purpose "
        f"FROM {records(file)} LEFT JOIN classes ON agent = userAgent ORDER BY day"
    )
    db.execute("UPDATE r SET site = NULL WHERE site = ''")
    if classes:
        missing = db.execute("SELECT DISTINCT userAgent FROM r WHERE class IS NULL").fetchall()
        if missing:
            raise SystemExit(f"agents that nobody has classified: {missing[:3]}")


def expected(db, day, classes):
    """By file name and site (None: all of them)."""
    db.execute(
        "CREATE OR REPLACE TEMP TABLE d AS "
        "WITH one AS (SELECT * FROM r WHERE day = ?), files AS ("
        "  SELECT day || '/summary_' || hour || '.json' AS file, * FROM one"
        "  UNION ALL SELECT day || '/summary.json' AS file, * FROM one) "
        "SELECT CAST(NULL AS VARCHAR) AS of, * FROM files "
        "UNION ALL SELECT site AS of, * FROM files WHERE site IS NOT NULL",
        [day],
    )
    maps = ", ".join(f"histogram({key})" for key in MAPS.values())
    quantiles = list(QUANTILES.values())
    rows = db.execute(
        f"SELECT file, of, count(*), sum(bytes), count(durationMs), quantile_disc(durationMs, {quantiles}), "
        f"histogram(class), {maps} FROM d GROUP BY ALL"
    )
    found = {}
    for file, of, count, size, durations, values, kinds, *maps in rows.fetchall():
        summary = found[(file, of)] = {"requests": count}
        if size is not None:
            summary["bytes"] = int(size)
        if durations:
            summary["durationMs"] = {"requests": durations, **dict(zip(QUANTILES, values))}
        for field, counts in zip(MAPS, maps):
            if counts:
                summary[field] = dict(counts)
        if classes:
            summary["requestsPerClient"] = {kind: (kinds or {}).get(kind, 0) for kind in KINDS}
            summary["requestsPerBot"] = {}
    rows = db.execute(
        f"SELECT file, of, name, operator, purpose, count(*), sum(bytes), histogram({STATUS_CLASS}) "
        "FROM d WHERE class = 'bot' GROUP BY ALL"
    )
    for file, of, name, operator, purpose, count, size, statuses in rows.fetchall():
        bot = {"operator": operator or None, "purpose": purpose, "requests": count}
        if statuses:
            bot["requestsPerStatusClass"] = dict(statuses)
        if size is not None:
            bot["bytes"] = int(size)
        found[(file, of)]["requestsPerBot"][name] = bot
    return found


def stands(analytics, day):
    found = {}
    for file in sorted((pathlib.Path(analytics) / day).glob("summary*.json")):
        summary = json.loads(file.read_text())
        name = f"{day}/{file.name}"
        found[(name, None)] = summary
        for site, of in summary["sites"].items():
            found[(name, site)] = of
    return found


def differences(right, found):
    if set(right) != set(found):
        yield f"summaries of {sorted(map(str, set(right) ^ set(found)))[:5]}"
    for place, right in right.items():
        summary = found.get(place)
        if summary is None:
            continue
        for field in ["requests", "bytes", *MAPS, *[f for f in ["requestsPerClient", "requestsPerBot"] if f in right]]:
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


def numbers(right):
    """How many numbers there are to compare."""
    return sum(numbers(of) if isinstance(of, dict) else isinstance(of, (int, float)) for of in right.values())


def check(db, file, analytics, classes):
    load(db, file, classes)
    days = [day for (day,) in db.execute("SELECT DISTINCT day FROM r ORDER BY day").fetchall()]
    there = sorted(day.name for day in pathlib.Path(analytics).glob("????-??-??"))
    wrong = [] if days == there else [f"days {sorted(set(days) ^ set(there))[:5]}"]
    places = compared = requests = 0
    worst = 0.0
    for number, day in enumerate(days, 1):
        right, found = expected(db, day, classes), stands(analytics, day)
        wrong += differences(right, found)
        places += len(right)
        compared += numbers(right)
        requests += right[(f"{day}/summary.json", None)]["requests"]
        for place, of in right.items():
            for quantile in QUANTILES if "durationMs" in of and place in found else []:
                true, said = of["durationMs"][quantile], found[place]["durationMs"][quantile]
                worst = max(worst, abs(said - true) / true if true > 1e-6 else 0.0)
        if number % DAYS_EACH == 0:
            print(f"  {number} of {len(days)} days, {len(wrong)} differences", file=sys.stderr, flush=True)
    for difference in wrong[:20]:
        print(difference)
    print(
        f"{places} summaries and sites compared, {compared} numbers of {requests} records, "
        f"{len(wrong)} differences, quantiles off by {100 * worst:.2f} % at most"
    )
    sys.exit(1 if wrong else 0)


def main():
    command, file, *rest = sys.argv[1:]
    db = duckdb.connect()
    db.execute("SET threads = 1")
    db.execute("SET enable_progress_bar = false")
    db.execute("SET memory_limit = '6GB'")
    if command == "check":
        check(db, file, rest[0], rest[1] if len(rest) > 1 else None)
    elif command == "agents":
        for (agent,) in db.execute(f"SELECT DISTINCT userAgent FROM {records(file)} ORDER BY 1").fetchall():
            print(agent)
    else:
        for key in ["path", "userAgent"]:
            rows = db.execute(
                f"SELECT timestamp[:13], {key}, count(*) FROM {records(file)} GROUP BY 1, 2"
            ).fetchall()
            print(len(rows))


main()
