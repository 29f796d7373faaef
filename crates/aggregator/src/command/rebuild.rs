//! `aggregator rebuild`: words around [`crate::rebuild`].

use pipeline_core::{
    command::{Progress, say},
    config::Config,
    fsx,
    lifecycle::exit,
};

use crate::{
    Portion,
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
    /// Count what the archive has of a store, or of chains, that are lost for good, and go on with
    /// the store that is there
    #[arg(long)]
    adopt: bool,
}

impl Rebuild {
    /// Gives the exit code.
    #[must_use]
    pub fn run(&self, config: &Config, portion: Portion) -> u8 {
        match self.rebuild(config, portion) {
            Ok(rebuilt) => {
                say(&format!(
                    "{} records, {} of them in {} files of the archive, {} aside: manifest {}",
                    rebuilt.records, rebuilt.archived, rebuilt.files, rebuilt.aside, rebuilt.number
                ));
                if rebuilt.taken_over > 0 {
                    say(&format!(
                        "{} of these are of chains that are gone: the archive alone has them",
                        rebuilt.taken_over
                    ));
                }
                let missing = rebuilt.missing + rebuilt.nowhere;
                if missing > 0 {
                    say(&format!(
                        "{missing} records are in neither archive nor live segments any more: they \
                         are in no summary"
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

    fn rebuild(&self, config: &Config, portion: Portion) -> Result<Rebuilt, RunError> {
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
            settings: service::settings(config, portion),
            without_missing: self.without_missing,
            adopt: self.adopt,
        };
        let outcome = rebuild(&sources, &mut show, &mut |step| {
            fsx::before(step.name());
            true
        });
        progress.end();
        outcome
    }
}
