//! `aggregator rebuild`: words around [`crate::rebuild`].

use pipeline_core::{
    command::{Progress, say},
    config::Config,
    fsx,
    lifecycle::exit,
};

use crate::{
    rebuild::{Rebuilt, Sources, rebuild},
    run::RunError,
    service,
};

/// Make lost or damaged state anew, from the archive and the live segments
#[derive(clap::Args, Debug)]
pub struct Rebuild {
    /// Go on although stored records are in neither of them (without this only where
    /// storage.archiveRetention is set, which removes some)
    #[arg(long)]
    without_missing: bool,
}

impl Rebuild {
    /// Gives the exit code.
    #[must_use]
    pub fn run(&self, config: &Config) -> u8 {
        match self.rebuild(config) {
            Ok(rebuilt) => {
                say(&format!(
                    "{} records, {} of them in {} files of the archive, {} aside: manifest {}",
                    rebuilt.records, rebuilt.archived, rebuilt.files, rebuilt.aside, rebuilt.number
                ));
                if rebuilt.missing > 0 {
                    say(&format!(
                        "{} records are in neither archive nor live segments any more: they are in \
                         no summary",
                        rebuilt.missing
                    ));
                }
                exit::OK
            }
            Err(error) => {
                say(&format!("nothing was changed: {error}"));
                exit::FAILED
            }
        }
    }

    fn rebuild(&self, config: &Config) -> Result<Rebuilt, RunError> {
        let storage = &config.storage;
        let progress = Progress::begin();
        let mut show = |so_far: &Rebuilt| {
            progress.show(|| {
                format!(
                    "{} of {} files of the archive, {} live segments, {} records",
                    so_far.files, so_far.files_all, so_far.segments, so_far.records
                )
            });
        };
        let sources = Sources {
            logs: &storage.logs_dir,
            analytics: &storage.analytics_dir,
            archiving: &service::archiving(config, usize::MAX),
            settings: service::settings(config),
            without_missing: self.without_missing,
        };
        let outcome = rebuild(&sources, &mut show, &mut |step| {
            fsx::before(step.name());
            true
        });
        progress.end();
        outcome
    }
}
