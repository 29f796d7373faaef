//! DuckDB reads the archive as it is: each row once, whole, at any moment.

use std::process::{Child, Command, Stdio};

use super::{
    archive::{Archived, MINUTE},
    *,
};

/// Python with DuckDB, or word of why this is skipped.
fn python(code: &str, archived: &Archived) -> Option<Command> {
    let there = Command::new("python3")
        .args(["-c", "import duckdb"])
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        testbed::skip::skipped("DuckDB on the archive", "no python3 with duckdb");
        return None;
    }
    let mut python = Command::new("python3");
    python.args(["-c", code]).arg(archived.dir());
    Some(python)
}

#[test]
fn duckdb_reads_each_record_whole_and_knows_days_and_hours() {
    let mut archived = Archived::new(61);
    archived.publish_all();
    archived.run();
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    let code = r#"
import duckdb, json, sys
root = sys.argv[1]
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
for glob in (root, root + "-aside"):
    rows = db.execute(f"""
        select partition, "offset", epoch_ms("timestamp") as ms, epoch_ms(receivedAt) as received, site, path,
               userAgent, method, status, bytes, durationMs, referer, cast(extra as varchar) as extra,
               topic, cast("date" as varchar) as day, cast("hour" as integer) as "hour",
               strftime("timestamp" at time zone 'UTC', '%Y-%m-%d') as same_day,
               cast(extract(hour from "timestamp" at time zone 'UTC') as integer) as same_hour
        from read_parquet('{glob}/**/*.parquet', hive_partitioning = true)
    """)
    names = [column[0] for column in rows.description]
    for row in rows.fetchall():
        print(json.dumps(dict(zip(names, row))))
# What lets readers skip: sorted, with statistics of each group and page.
files = f"'{root}/**/*.parquet'"
stats = db.execute(f"select count(*) filter (stats_min_value is null), count(*) from parquet_metadata({files}) where path_in_schema = 'timestamp'").fetchone()
assert stats[0] == 0 and stats[1] > 0, stats
codecs = db.execute(f"select distinct compression from parquet_metadata({files})").fetchall()
assert codecs == [("ZSTD",)], codecs
"#;
    let Some(mut python) = python(code, &archived) else {
        return;
    };
    let output = python.output().unwrap();
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{failed}");
    let mut keys = std::collections::BTreeSet::new();
    for row in String::from_utf8(output.stdout).unwrap().lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let key = (
            row["partition"].as_i64().unwrap() as i32,
            row["offset"].as_i64().unwrap(),
        );
        assert!(keys.insert(key), "{row}");
        let line: Value = serde_json::from_str(&archived.lines[&key]).unwrap();
        let fields = pipeline_core::record::read(archived.lines[&key].as_bytes()).unwrap();
        assert_eq!(row["ms"], json!(fields.timestamp_ms), "{row}");
        assert_eq!(row["received"], json!(BASE_MS));
        assert_eq!(
            (&row["day"], &row["hour"]),
            (&row["same_day"], &row["same_hour"])
        );
        for name in [
            "site",
            "path",
            "userAgent",
            "method",
            "status",
            "bytes",
            "referer",
        ] {
            assert_eq!(
                row[name],
                line.get(name).cloned().unwrap_or(Value::Null),
                "{name} of {row}"
            );
        }
        assert_eq!(
            row["durationMs"].as_f64(),
            line.get("durationMs").and_then(Value::as_f64)
        );
        let extra: Value = serde_json::from_str(row["extra"].as_str().unwrap()).unwrap();
        assert_eq!(extra, json!({"extra": line["extra"]}));
    }
    assert!(keys.iter().eq(archived.lines.keys()));
}

/// A reader that globs on and on until its input ends.
struct Reader(Child);

impl Reader {
    fn end(mut self) -> (u64, String) {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{failed}");
        let text = String::from_utf8(output.stdout).unwrap();
        let (reads, rows) = text.trim().split_once(' ').unwrap();
        (reads.parse().unwrap(), rows.to_owned())
    }
}

#[test]
fn duckdb_globbing_during_ticks_never_sees_a_torn_file_or_a_row_twice() {
    let mut archived = Archived::new(62);
    let code = r#"
import duckdb, glob, select, sys
root = sys.argv[1]
db = duckdb.connect()
reads = rows = 0
print("begun", flush=True)
last = False
while not last:
    last = bool(select.select([sys.stdin], [], [], 0)[0])
    # As DuckDB's own globbing, but that none is no error.
    if not glob.glob(root + "/**/*.parquet", recursive=True):
        continue
    found = db.execute(f"""select count(*), count(distinct (topic, partition, "offset")), count(path)
                           from read_parquet('{root}/**/*.parquet')""").fetchone()
    assert found[0] == found[1] == found[2], found
    assert found[0] >= rows, (found, rows)
    rows = found[0]
    reads += 1
print(reads, rows)
"#;
    let Some(mut python) = python(code, &archived) else {
        return;
    };
    let mut child = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    let reader = Reader(child);
    for tick in 0..60 {
        archived.publish(tick % 3, 9);
        archived.pass(20 * MINUTE);
        let mut aggregator = archived.aggregator();
        // Every third one is killed somewhere.
        let at = if tick % 3 == 0 {
            archived.world.rng.usize(..60)
        } else {
            usize::MAX
        };
        let _ = aggregator.run(&mut kill_at(at));
    }
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    archived.assert_archived();
    let (reads, rows) = reader.end();
    assert!(reads > 0);
    assert_eq!(
        rows,
        (archived.lines.len() as u64 - archived.world.aside).to_string()
    );
}
