//! The commands of docs/runbook.md, taken from the page and run as they stand there, with the
//! names of this stand in the places of the page's.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// What a drill can run; the rest are other people's tools, which the page names for other places.
const PROGRAMS: [&str; 11] = [
    "ingest-gateway",
    "kafka-consumer-writer",
    "aggregator",
    "curl",
    "kcat",
    "openssl",
    "echo",
    "kill",
    "df",
    "ls",
    "grep",
];
/// Kafka's own, which only who has a real Kafka can run.
const OF_KAFKA: [&str; 3] = [
    "kafka-topics.sh",
    "kafka-configs.sh",
    "kafka-consumer-groups.sh",
];
/// Clap's for a command that is called wrongly, timeout's, and bash's for one that is not there.
const NOT_THERE: [i32; 4] = [2, 124, 126, 127];

/// The page, by its headings.
#[derive(Debug)]
pub struct Runbook {
    sections: BTreeMap<String, Vec<Line>>,
}

/// One command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Under **Confirm**.
    pub confirms: bool,
    /// In a block of its own, not in a sentence.
    pub block: bool,
    pub text: String,
}

/// What the page's names mean here, and where it is read: a person in a shell on the host.
#[derive(Clone, Debug)]
pub struct Shell {
    pub dir: PathBuf,
    /// Where the product's binaries are.
    pub bins: PathBuf,
    /// As the page has it, as it is here.
    pub names: Vec<(String, String)>,
    /// What `pidof` says.
    pub pid: u32,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Done {
    pub line: String,
    pub code: i32,
    pub said: String,
}

impl Runbook {
    /// # Errors
    /// When the page cannot be read.
    pub fn read(page: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(page)
            .with_context(|| format!("cannot read {}", page.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(page: &str) -> Self {
        let mut sections = BTreeMap::<String, Vec<Line>>::new();
        let (mut section, mut confirms, mut fenced) = (String::new(), false, false);
        for line in page.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            if !fenced && line.starts_with('#') {
                line.trim_start_matches(['#', ' ']).clone_into(&mut section);
                confirms = false;
                continue;
            }
            if let Some(bold) = line.strip_prefix("**") {
                confirms = bold.starts_with("Confirm");
            }
            // Between backticks a word alone is a name and no command.
            let found: Vec<&str> = if fenced {
                vec![line]
            } else {
                let inline = line.split('`').skip(1).step_by(2);
                inline.filter(|text| text.contains(' ')).collect()
            };
            let lines = sections.entry(section.clone()).or_default();
            for text in found.into_iter().map(str::trim) {
                let text = text.split(" # ").next().unwrap_or(text).trim();
                let program = text.split_whitespace().next().unwrap_or_default();
                let is_known = PROGRAMS.contains(&program) || OF_KAFKA.contains(&program);
                if is_known && !text.contains('…') {
                    let text = text.to_owned();
                    lines.push(Line {
                        confirms,
                        block: fenced,
                        text,
                    });
                }
            }
        }
        Self { sections }
    }

    /// What confirms an alert, but for what Kafka's own tools tell.
    ///
    /// # Errors
    /// When the page has no such section.
    pub fn confirm(&self, alert: &str) -> Result<Vec<Line>> {
        let lines = self.sections.get(alert);
        let lines = lines.with_context(|| format!("the runbook has no section {alert}"))?;
        let confirms = |line: &&Line| {
            let program = line.text.split_whitespace().next().unwrap_or_default();
            line.confirms && !OF_KAFKA.contains(&program)
        };
        Ok(lines.iter().filter(confirms).cloned().collect())
    }

    /// All that stand in blocks, each with its section.
    pub fn blocks(&self) -> impl Iterator<Item = (&str, &Line)> {
        let all = self.sections.iter();
        let all =
            all.flat_map(|(section, lines)| lines.iter().map(move |it| (section.as_str(), it)));
        all.filter(|(_, line)| line.block)
    }

    /// The command of a section that is this, or else the first that begins so.
    ///
    /// # Errors
    /// When there is none.
    pub fn command(&self, section: &str, start: &str) -> Result<String> {
        let lines = || self.sections.get(section).into_iter().flatten();
        let whole = lines().find(|line| line.text == start);
        let line = whole.or_else(|| lines().find(|line| line.text.starts_with(start)));
        let line = line.with_context(|| format!("the runbook's {section} has no `{start}`"))?;
        Ok(line.text.clone())
    }
}

impl Shell {
    /// Runs a line of the page.
    ///
    /// # Errors
    /// When bash cannot be started, a command is not there or is called wrongly, or a `grep` of it
    /// finds nothing.
    pub fn run(&self, line: &str) -> Result<Done> {
        let text = self.here(line);
        // Other services of this kind run on the machine: only this one is meant.
        let script = format!("pidof() {{ echo {}; }}\n{text}", self.pid);
        let output = self
            .at_home(Command::new("timeout"))?
            .args(["60", "bash", "-c", &script])
            .output()
            .context("cannot start bash")?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let code = output.status.code().unwrap_or(-1);
        let found_nothing = text.contains("grep") && code != 0;
        if NOT_THERE.contains(&code) || found_nothing {
            bail!("`{text}` of the runbook ends with {code}: {said}");
        }
        Ok(Done {
            line: line.to_owned(),
            code,
            said,
        })
    }
}

impl Shell {
    /// A line of the page that goes on until it is ended, as a process of its own.
    ///
    /// # Errors
    /// When the directories' names cannot stand in a `PATH`.
    pub fn command(&self, line: &str) -> Result<Command> {
        let mut command = self.at_home(Command::new("bash"))?;
        command.args(["-c", &format!("exec {}", self.here(line))]);
        Ok(command)
    }

    /// With the names of here.
    fn here(&self, line: &str) -> String {
        let names = self.names.iter();
        names.fold(line.to_owned(), |text, (page, here)| {
            text.replace(page, here)
        })
    }

    fn at_home(&self, mut command: Command) -> Result<Command> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs = vec![self.bins.clone()];
        dirs.extend(std::env::split_paths(&path));
        command.current_dir(&self.dir);
        command.env("PATH", std::env::join_paths(dirs)?);
        Ok(command)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.said.lines().find(|line| !line.trim().is_empty());
        let first: String = first.unwrap_or_default().chars().take(100).collect();
        write!(f, "$ {} [{}] {first}", self.line, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_where_they_stand() {
        let page = "# Alerts\n## A\n**Means**: `kill x`.\n**Confirm**: `df -h` of `curl`, `kafka-topics.sh --list`.\n\n```sh\n\
                    curl -s localhost:9101/metrics | grep x      # what\n```\n\n**Do**: `kcat -L`, \
                    `aggregator export --from …`.\n## B\n`nothing here`\n";
        let book = Runbook::parse(page);
        let confirm = book.confirm("A").expect("there");
        let texts: Vec<_> = confirm.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["df -h", "curl -s localhost:9101/metrics | grep x"]);
        assert_eq!(book.command("A", "kcat").expect("there"), "kcat -L");
        assert!(book.command("A", "aggregator").is_err());
        assert!(book.confirm("C").is_err());
    }
}
