use super::*;
use crate::{
    client::{Client, StatusClass},
    counts::{Counts, Site, Traffic},
    hour::Day,
};

fn content() -> Content<'static> {
    let traffic = Traffic {
        requests: 7,
        ..Traffic::default()
    };
    let counts = Counts {
        traffic: vec![((0, Client::Human, StatusClass(2)), traffic)],
        ..Counts::default()
    };
    Content {
        sites: vec![(Site::Named("a"), counts)],
        ..Content::default()
    }
}

#[test]
fn a_state_is_read_as_it_was_written_and_every_damage_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let day = Period::Day(Day(16_572));
    let entry = Entry {
        changed: 3,
        state: "0".repeat(32),
        requests: 7,
    };
    let hours = Hours::from([(Day(16_572).hours().start, entry)]);
    let written = write(dir.path(), day, 4, &content(), hours.clone()).unwrap();
    assert_eq!((written.changed, written.requests), (4, 7));
    let name = written.name(day);
    assert_eq!(StateName::parse(&name.file_name()), Some(name.clone()));
    let state = State::read(dir.path(), &name).unwrap();
    assert_eq!(state.content().unwrap(), content());
    assert_eq!(state.head.hours, hours);
    assert_eq!(Head::read(dir.path(), &name).unwrap(), state.head);
    // Again: the same bytes under the same name.
    assert_eq!(
        write(dir.path(), day, 4, &content(), hours).unwrap(),
        written
    );

    let path = dir.path().join(name.file_name());
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut wrong = whole.clone();
        wrong[at] ^= 1;
        for wrong in [&wrong[..], &whole[..at]] {
            fs::write(&path, wrong).unwrap();
            let error = State::read(dir.path(), &name).err().unwrap();
            assert!(matches!(error, StateError::Damaged { .. }), "{at}: {error}");
        }
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(State::read(dir.path(), &name).is_err());
}
