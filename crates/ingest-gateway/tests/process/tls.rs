//! The listener's certificate as files on disk: judged at the start and by `--check`, read anew
//! on SIGHUP.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    process::Signal,
};

use crate::place::{Place, wait_for};

/// Lines of the section `server`; the paths begin at `dataDir`.
const TLS: &str = "  tls: {certFile: tls/server.crt, keyFile: tls/server.key}\n";

/// Puts a new certificate for localhost where [`TLS`] looks for it; gives the certificate's file.
pub fn certificate(place: &Place) -> PathBuf {
    let dir = place.dir().join("data/tls");
    fs::create_dir_all(&dir).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    fs::write(dir.join("server.crt"), made.cert.pem()).unwrap();
    dir.join("server.crt")
}

/// A place whose gateway speaks TLS, and the file of its certificate.
pub fn place_with_tls() -> (Place, PathBuf) {
    let place = Place::new();
    let file = certificate(&place);
    place.configure_server(TLS, "");
    (place, file)
}

#[test]
fn bad_files_are_named_with_their_paths_by_a_check_and_a_start() {
    let (place, certificate) = place_with_tls();
    assert_eq!(place.output(&["--check"]).status.code(), Some(0));
    let key = certificate.with_file_name("server.key");
    fs::remove_file(&key).unwrap();
    fs::write(&certificate, "nothing").unwrap();
    // They come with whatever else is wrong.
    place.configure_server(TLS, "telemetry: {lug: {}}\n");
    for arguments in [&["--check"][..], &[]] {
        let output = place.output(arguments);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let mut lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        let misspelt = lines.remove(0);
        assert!(misspelt.contains(": telemetry.lug: found "), "{said}");
        for (line, (path, file)) in lines
            .iter()
            .zip([("certFile", &certificate), ("keyFile", &key)])
        {
            let expected = format!(": server.tls.{path}: found {} (it ", file.display());
            assert!(line.contains(&expected), "{line}");
            assert!(line.contains(", allowed: a PEM file with the "), "{line}");
        }
    }
}

#[test]
fn sighup_is_counted_whatever_is_in_the_files_and_ends_nothing() {
    let (place, file) = place_with_tls();
    let mut serving = place.serve();
    let reloads = |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        serving
            .metrics()
            .with("tls_reloads_total", &label)
            .expect("there from the start")
    };
    assert_eq!((reloads("applied"), reloads("refused")), (0.0, 0.0));
    let ends = serving
        .metrics()
        .sum("tls_certificate_not_after_timestamp_seconds");
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(ends > Some(now), "{ends:?}");
    fs::write(&file, "nothing").unwrap();
    serving.process.signal(Signal::HUP).unwrap();
    wait_for("a refusal", || reloads("refused") == 1.0);
    certificate(&place);
    serving.process.signal(Signal::HUP).unwrap();
    wait_for("a reload", || reloads("applied") == 1.0);
    assert!(serving.process.ended().unwrap().is_none());
    let log = serving.terminate();
    let refusal = log
        .lines()
        .find(|line| line.contains("server.tls.certFile"));
    assert!(refusal.is_some_and(|line| line.contains("ERROR")), "{log}");
}

/// Puts a pipe where `file` is: who reads it waits.
fn hang(file: &Path) {
    fs::remove_file(file).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, file, FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn files_on_a_disk_that_hangs_hold_no_shutdown_up() {
    let (place, certificate) = place_with_tls();
    let serving = place.serve();
    let files = [place.config(), certificate];
    for file in &files {
        hang(file);
    }
    serving.process.signal(Signal::HUP).unwrap();
    let _writers = files.map(|file| {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut writer = None;
        wait_for("a reader", || {
            writer = open(&file, flags, Mode::empty()).ok();
            writer.is_some()
        });
        writer
    });
    serving.terminate();
}
