//! What DuckDB computes from the stored records is what every summary says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testbed::{
    clock::Millis,
    duckdb,
    generate::generate,
    http::post,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
    store::{self, Counter},
};

use crate::RunDir;

#[test]
fn every_count_of_every_summary_is_what_duckdb_computes() -> Result<()> {
    if !duckdb::is_there() {
        skip::skipped(
            "every count by DuckDB",
            "python3 has no duckdb (pip install duckdb)",
        );
        return Ok(());
    }
    let dir = RunDir::new("duckdb");
    let mut stand = Stand::up(&dir, Plan::from_env())?;
    let mut accepted = 0;
    for piece in generate(6, 6_000, Millis::now()) {
        let headers = [("content-type", piece.content_type)];
        let response = post(stand.addresses[0], &piece.target, &headers, &piece.body)?;
        let said = response.json();
        ensure!(response.status == 202, "{} {said}", response.status);
        accepted += said["accepted"].as_u64().context("accepted is a number")?;
    }
    let mut stored = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    let all = poll_until(Duration::from_secs(60), || {
        Ok((stored.records()? >= accepted).then_some(()))
    })?;
    ensure!(all.is_some(), "{} of {accepted} stored", stored.records()?);
    for service in stand.services() {
        service.terminate()?;
    }
    stand.aggregate_once()?;
    let topic = stand.logs_dir().join("_live").join(&stand.plan.topic);
    let ndjson = dir.join("records.ndjson");
    duckdb::unpack(&store::segments(&topic)?, &ndjson)?;
    let said = duckdb::check(&ndjson, &stand.analytics_dir())?;
    ensure!(said.contains("summaries and sites compared"), "{said}");
    dir.passed()
}
