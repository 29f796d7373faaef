//! The chains' own totals, as `verify` proves them, against what is really there.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{aside::Aside, oracle::Verdict, order::Order};

/// # Errors
/// Where two of them differ.
pub fn compare(
    verified: &Value,
    verdict: &Verdict,
    aside: &Aside,
    order: Option<&Order>,
) -> Result<()> {
    let total = |fate: &str| {
        let chains = verified["chains"].as_array().context("chains")?;
        let each = chains.iter().map(|chain| chain["totals"][fate].as_u64());
        let sum: Option<u64> = each.sum();
        sum.with_context(|| format!("verify says nothing of {fate}: {verified}"))
    };
    let same = |fate: &str, what: &str, there: u64| {
        let counted = total(fate)?;
        ensure!(
            counted == there,
            "the chains count {counted} {fate}, but there are {there} {what}"
        );
        Ok::<_, anyhow::Error>(())
    };
    same("stored", "records in them", verdict.stored)?;
    same("poison", "messages in the consumer DLQ", aside.poison())?;
    let undecidable = aside.undecidable();
    same("undecidable", "messages in the consumer DLQ", undecidable)?;
    same("lost", "that retention may take", 0)?;
    if let Some(order) = order {
        same("duplicate", "copies in the logs", order.copies)?;
        same("poison", "messages of it in the logs", order.poison)?;
        same(
            "undecidable",
            "messages of it in the logs",
            order.undecidable,
        )?;
    }
    Ok(())
}
