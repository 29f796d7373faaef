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
    #[serde(default)]
    sites_error_max: u64,
    other_sites: Option<Box<Summary>>,
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
    /// How much too low a count may be: none is ever too high.
    #[serde(default)]
    pub error_max: u64,
}

impl Default for Accuracy {
    /// Of what has no bound, or does not say.
    fn default() -> Self {
        Self {
            exact: true,
            other: 0,
            error_max: 0,
        }
    }
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
    pub accuracy: Accuracy,
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
        let sites_error_max = self.sites_error_max;
        let other_sites = self.other_sites.take().map_or(0, |other| other.requests);
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
        let mut accuracy = match by {
            By::Path => counts.accuracy.get("requestsPerPath").copied(),
            By::Agent => counts.accuracy.get("requestsPerUserAgent").copied(),
            By::Bot | By::Site => None,
        }
        .unwrap_or_default();
        if by == By::Site {
            accuracy.other = other_sites;
        }
        // What a site had before it was kept apart is in none of its counts.
        if by == By::Site || site.is_some() {
            accuracy.exact &= sites_error_max == 0;
            accuracy.error_max += sites_error_max;
        }
        let mut rows: Vec<Row> = match by {
            By::Path => rows(counts.requests_per_path),
            By::Agent => rows(counts.requests_per_user_agent),
            By::Site => rows(sites),
            By::Bot => {
                let row = |(key, bot): (String, Bot)| Row {
                    key,
                    requests: bot.requests,
                    operator: bot.operator.filter(|operator| !operator.is_empty()),
                    purpose: bot.purpose,
                };
                counts.requests_per_bot.into_iter().map(row).collect()
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
            accuracy,
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
