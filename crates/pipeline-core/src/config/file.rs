//! A configuration with the file it came from, which can be read anew and compared.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Config, Fault, Faulty, LoadError, NamedFiles, keys::KEYS, parse, value::Item};

/// Longest configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that holds a configuration.
pub struct ConfigFile {
    path: PathBuf,
    config: Config,
    /// As they stand in it, secrets too.
    values: Item,
}

impl ConfigFile {
    /// Reads and parses `file`, with the variables of the process's environment.
    ///
    /// # Errors
    /// Where the file cannot be read, is not YAML, or has faults.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        Self::load_judged(file, |_| Vec::new())
    }

    /// The same, with the faults that `judge` finds in the files that it names, all at once.
    ///
    /// # Errors
    /// As [`Self::load`], or where `judge` finds some.
    pub fn load_judged(
        file: &Path,
        judge: impl FnOnce(&NamedFiles) -> Vec<Fault>,
    ) -> Result<Self, LoadError> {
        let yaml = read(file).map_err(|message| LoadError::File {
            file: file.to_owned(),
            message,
        })?;
        let env = |name: &str| std::env::var(name).ok();
        let parsed = parse(&yaml, &env);
        let faults = match &parsed {
            Ok((config, _)) => judge(&config.named_files()),
            Err(Faulty { files, .. }) => judge(files),
        };
        match parsed {
            Ok((config, values)) if faults.is_empty() => Ok(Self {
                path: file.to_owned(),
                config,
                values,
            }),
            parsed => {
                let mut all = parsed.err().unwrap_or_default().faults;
                all.extend(faults);
                Err(LoadError::Faults {
                    file: file.to_owned(),
                    faults: all,
                })
            }
        }
    }

    /// What the file holds now.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read_again(&self) -> Result<Self, LoadError> {
        Self::load(&self.path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    #[must_use]
    pub fn into_config(self) -> Config {
        self.config
    }

    /// Paths of the keys whose values are not those of `other`; a list counts as one.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let keys = KEYS.iter().map(|key| key.path);
        keys.filter(|path| self.values.get(path) != other.values.get(path))
            .collect()
    }
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn read(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is longer than the {FILE_BYTES_MAX} bytes allowed"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!(
            "is not UTF-8: found byte 0x{:02x} at {at}",
            error.as_bytes()[at]
        )
    })
}
