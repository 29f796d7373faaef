//! `ingest-gateway rejects list|show`: who sends what wrong, so that they can be helped. Only
//! reads, also beside a gateway that runs.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use pipeline_core::{
    command::{Received, plain},
    lifecycle::{CommonArgs, exit},
    record::shown,
};
use serde_json::{Value, json};

use super::{print, say};
use crate::rejects::{
    entry::Line,
    read::{Filter, read},
};

/// Of a list; what comes beyond is one group of its own.
const GROUPS_MAX: usize = 10_000;

#[derive(Subcommand, Debug)]
pub enum RejectsCommand {
    /// Count by client, site and code, each with its newest sample; the most frequent first
    List {
        #[command(flatten)]
        which: Which,
    },
    /// Print the newest ones, oldest first
    Show {
        #[command(flatten)]
        which: Which,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
}

/// Where to look, and for what.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// The directory, where it is not the configuration's
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only what was sent for this site (`?site=`, the API key's, or the record's own)
    #[arg(long, value_name = "HOST")]
    site: Option<String>,
    /// Only what the API key of this id sent
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Only this reason, as `missing`
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    #[command(flatten)]
    received: Received,
    /// NDJSON
    #[arg(long)]
    json: bool,
}

/// Rejects of one client, site and code.
#[derive(Debug)]
struct Group {
    count: u64,
    first: String,
    /// The newest, as it stands in its file.
    sample: String,
}

type Groups = BTreeMap<(String, Option<String>, String), Group>;

impl RejectsCommand {
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        let (Self::List { which } | Self::Show { which, .. }) = &self;
        if let Some(code) = which.received.refused() {
            return code;
        }
        match self {
            Self::List { which } => {
                let json = which.json;
                which.look(
                    common,
                    |groups: &mut Groups, line, text| {
                        count(groups, line, text);
                    },
                    |groups, out| list(groups, json, out),
                )
            }
            Self::Show { which, limit } => {
                let json = which.json;
                which.look(
                    common,
                    |newest: &mut VecDeque<String>, _, text| {
                        newest.push_back(text.to_owned());
                        if newest.len() > limit {
                            newest.pop_front();
                        }
                    },
                    |newest, out| show(newest, json, out),
                )
            }
        }
    }
}

impl Which {
    /// Collects what is wanted, then prints it; says on stderr what is damaged.
    fn look<T: Default>(
        self,
        common: &CommonArgs,
        collect: impl Fn(&mut T, &Line<'_>, &str),
        then: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
    ) -> u8 {
        let filter = Filter {
            from_ms: self.received.from,
            to_ms: self.received.to,
            site: self.site,
            client: self.client,
            code: self.code,
        };
        let configured = || common.load_or_exit().ingestion.rejects_dir;
        let Some(dir) = self.dir.or_else(configured) else {
            say("ingestion.rejectsDir is off: nothing is kept; --dir names a directory");
            return exit::FAILED;
        };
        print(&dir, |out| {
            let mut all = T::default();
            let damage = read(&dir, &filter, &mut |line, text| {
                collect(&mut all, line, text);
                Ok(())
            })?;
            then(all, out)?;
            out.flush()?;
            for place in damage {
                say(&format!("damage: {place}"));
            }
            Ok(())
        })
    }
}

fn count(groups: &mut Groups, line: &Line<'_>, text: &str) {
    let site = line.site.as_deref().map(str::to_owned);
    let mut key = (line.client.to_string(), site, line.code.to_string());
    if groups.len() >= GROUPS_MAX && !groups.contains_key(&key) {
        key = ("(others)".to_owned(), None, "(others)".to_owned());
    }
    let group = groups.entry(key).or_insert_with(|| Group {
        count: 0,
        first: line.time.to_string(),
        sample: String::new(),
    });
    group.count += 1;
    text.clone_into(&mut group.sample);
}

fn list(groups: Groups, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
    let all: u64 = groups.iter().map(|(_, group)| group.count).sum();
    for ((client, site, code), group) in &groups {
        let sample: Line<'_> = serde_json::from_str(&group.sample)?;
        if json {
            let value = json!({
                "client": client,
                "site": site,
                "code": code,
                "count": group.count,
                "first": group.first,
                "last": sample.time,
                "sample": serde_json::from_str::<Value>(&group.sample)?,
            });
            writeln!(out, "{value}")?;
            continue;
        }
        writeln!(
            out,
            "{:>8}  {code}  client {}  site {}  {} to {}",
            group.count,
            or_dash(client),
            or_dash(site.as_deref().unwrap_or_default()),
            group.first,
            sample.time,
        )?;
        writeln!(out, "          {}", sample.message)?;
        writeln!(out, "          {}", raw(&sample))?;
    }
    if !json {
        writeln!(out, "{all} rejected, of {} kinds", groups.len())?;
    }
    Ok(())
}

fn show(newest: VecDeque<String>, json: bool, out: &mut dyn Write) -> io::Result<()> {
    for text in newest {
        if json {
            writeln!(out, "{text}")?;
            continue;
        }
        let line: Line<'_> = serde_json::from_str(&text)?;
        let index = line
            .index
            .map_or("body".to_owned(), |index| format!("record {index}"));
        writeln!(
            out,
            "{}  {}  client {}  site {}  {index} of batch {}  {}",
            line.time,
            line.code,
            or_dash(&line.client),
            or_dash(line.site.as_deref().unwrap_or_default()),
            or_dash(line.batch_id.as_deref().unwrap_or_default()),
            line.content_type,
        )?;
        writeln!(out, "    {}", line.message)?;
        writeln!(out, "    {}", raw(&line))?;
    }
    Ok(())
}

/// What came, on one line whatever bytes it has; a terminal obeys none of them.
fn raw(line: &Line<'_>) -> String {
    let text = match (&line.raw, &line.raw_base64) {
        (Some(raw), _) => plain(raw),
        (None, Some(base64)) => format!("base64 {base64}"),
        (None, None) => String::new(),
    };
    text + if line.raw_truncated { " …" } else { "" }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        shown(text.as_bytes())
    }
}
