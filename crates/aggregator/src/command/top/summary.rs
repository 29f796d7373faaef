//! What of a summary `top` reads. Pure; fields that it does not know are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::By;

/// A summary, or what it holds of one site: of the same form, without sites.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    requests: u64,
    #[serde(default)]
    requests_per_path: BTreeMap<String, u64>,
    #[serde(default)]
    requests_per_user_agent: BTreeMap<String, u64>,
    #[serde(default)]
    requests_per_client: BTreeMap<String, u64>,
    #[serde(default)]
    requests_per_bot: BTreeMap<String, Bot>,
    #[serde(default)]
    accuracy: BTreeMap<String, Accuracy>,
    #[serde(default)]
    sites: BTreeMap<String, Summary>,
}

#[derive(Deserialize)]
struct Bot {
    requests: u64,
    operator: Option<String>,
    purpose: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Accuracy {
    pub exact: bool,
    /// Requests that are under no key of their own.
    #[serde(default)]
    pub other: u64,
    /// How much too high a count may be.
    #[serde(default)]
    pub error_max: u64,
}

/// What was asked for.
#[derive(Debug)]
pub struct Found {
    /// All requests of the time and site.
    pub requests: u64,
    /// By kind of client; empty in summaries that do not know it.
    pub clients: BTreeMap<String, u64>,
    /// The most frequent first, equal ones by name.
    pub rows: Vec<Row>,
    pub accuracy: Option<Accuracy>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    pub requests: u64,
    pub operator: Option<String>,
    pub purpose: Option<String>,
}

impl Summary {
    /// # Errors
    /// The sites that there are, where the wanted one is not among them.
    pub fn found(mut self, by: By, site: Option<&str>) -> Result<Found, Vec<String>> {
        let mut sites: BTreeMap<String, u64> = self
            .sites
            .iter()
            .map(|(site, counts)| (site.clone(), counts.requests))
            .collect();
        let counts = match site {
            None => self,
            Some(site) => match self.sites.remove(site) {
                Some(counts) => {
                    sites.retain(|name, _| name == site);
                    counts
                }
                None => return Err(sites.into_keys().collect()),
            },
        };
        let (mut rows, dimension): (Vec<Row>, _) = match by {
            By::Path => (rows(counts.requests_per_path), "requestsPerPath"),
            By::Agent => (rows(counts.requests_per_user_agent), "requestsPerUserAgent"),
            By::Site => (rows(sites), "sites"),
            By::Bot => {
                let row = |(key, bot): (String, Bot)| Row {
                    key,
                    requests: bot.requests,
                    operator: bot.operator.filter(|operator| !operator.is_empty()),
                    purpose: bot.purpose,
                };
                let rows = counts.requests_per_bot.into_iter().map(row);
                (rows.collect(), "requestsPerBot")
            }
        };
        rows.sort_by(|one, other| {
            let by_count = other.requests.cmp(&one.requests);
            by_count.then_with(|| one.key.cmp(&other.key))
        });
        Ok(Found {
            requests: counts.requests,
            clients: counts.requests_per_client,
            rows,
            accuracy: counts.accuracy.get(dimension).copied(),
        })
    }
}

fn rows(counts: BTreeMap<String, u64>) -> Vec<Row> {
    let row = |(key, requests)| Row {
        key,
        requests,
        operator: None,
        purpose: None,
    };
    counts.into_iter().map(row).collect()
}
