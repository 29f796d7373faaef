//! How full the disks are. A disk that hangs keeps nobody waiting: its numbers stay as they were.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use metrics::gauge;
use rustix::{fs::statvfs, io};
use tokio::{task::spawn_blocking, time};

use super::catalog::{self, label};

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells the metrics the size and the room of the file system with `dir`, until it is dropped;
/// `volume` is one of [`catalog::VOLUMES`].
pub async fn watch(volume: &'static str, dir: PathBuf) {
    loop {
        let looked_at = dir.clone();
        let found = spawn_blocking(move || look(&looked_at)).await;
        if let Ok(Ok((size, free))) = found {
            gauge!(catalog::VOLUME_SIZE, label::VOLUME => volume).set(size);
            gauge!(catalog::VOLUME_FREE, label::VOLUME => volume).set(free);
        }
        time::sleep(LOOK_EVERY).await;
    }
}

/// Bytes there are, and bytes that are left.
#[allow(clippy::cast_precision_loss)]
fn look(dir: &Path) -> io::Result<(f64, f64)> {
    let found = statvfs(dir)?;
    let bytes = |blocks: u64| blocks as f64 * found.f_frsize as f64;
    Ok((bytes(found.f_blocks), bytes(found.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_a_size_and_no_more_room_than_that() {
        let dir = tempfile::tempdir().unwrap();
        let (size, free) = look(dir.path()).unwrap();
        assert!(size > 0.0 && free <= size, "{free} of {size}");
        assert!(look(&dir.path().join("none")).is_err());
    }
}
