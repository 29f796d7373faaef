//! What stands in a report's page, read as any program could: the data's JSON and its packed
//! numbers (docs/reports.md). Shares no code with the product.

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// The data of a page.
///
/// # Errors
/// Where the page holds none.
pub fn data(page: &str) -> Result<Value> {
    let (_, rest) = page.split_once(" id=\"data\">").context("no data")?;
    let (data, _) = rest
        .split_once("</script>")
        .context("data without an end")?;
    Ok(serde_json::from_str(data)?)
}

/// All requests of a page's time line.
///
/// # Errors
/// Where it is none.
pub fn requests(data: &Value) -> Result<u64> {
    let mut sum = 0;
    for line in data["hours"].as_array().context("no hours")? {
        sum += unpack(&line[1])?
            .into_iter()
            .skip(1)
            .step_by(2)
            .sum::<u64>();
    }
    Ok(sum)
}

/// Numbers from base64 of varints.
///
/// # Errors
/// Where it is no text of these.
pub fn unpack(text: &Value) -> Result<Vec<u64>> {
    let bytes = BASE64_STANDARD.decode(text.as_str().context("no text")?)?;
    let numbers = bytes.split_inclusive(|byte| byte & 0x80 == 0);
    let number = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0, |sum, byte| (sum << 7) | u64::from(byte & 0x7f))
    };
    Ok(numbers.map(number).collect())
}
