use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_name_is_put_once_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one");
    assert!(put_if_absent(&path, b"first").unwrap());
    assert!(!put_if_absent(&path, b"second").unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(names(dir.path()), ["one"], "temporary files are removed");
}

#[test]
fn of_many_putting_at_once_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one");
    let winners: Vec<u8> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..8_u8)
            .map(|n| {
                let path = &path;
                scope.spawn(move || put_if_absent(path, &[n]).unwrap().then_some(n))
            })
            .collect();
        tasks
            .into_iter()
            .filter_map(|task| task.join().unwrap())
            .collect()
    });
    assert_eq!(winners.len(), 1);
    assert_eq!(fs::read(&path).unwrap(), winners);
    assert_eq!(names(dir.path()), ["one"]);
}

#[test]
fn replace_puts_the_whole_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one");
    replace(&path, b"a longer first").unwrap();
    replace(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(names(dir.path()), ["one"]);
}

#[test]
fn directories_are_made_with_all_above_and_again_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    create_dirs(&deep).unwrap();
    create_dirs(&deep).unwrap();
    assert!(deep.is_dir());
    fs::write(dir.path().join("file"), b"").unwrap();
    for wanted in ["file", "file/below"] {
        let error = create_dirs(&dir.path().join(wanted)).unwrap_err();
        assert!(
            error.to_string().contains("file is no directory"),
            "{error}"
        );
    }
}

#[test]
fn what_is_private_is_for_its_owner_alone_and_what_is_above_it_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = tempfile::tempdir().unwrap();
    let (shared, private) = (dir.path().join("shared"), dir.path().join("shared/private"));
    create_private_dir(&private).unwrap();
    assert_eq!(mode(&private), 0o700);
    // As the umask says, which this cannot know: as any other.
    fs::create_dir(dir.path().join("any")).unwrap();
    assert_eq!(mode(&shared), mode(&dir.path().join("any")));
    put_private_if_absent(&private.join("a"), b"x").unwrap();
    assert_eq!(mode(&private.join("a")), 0o600);
    put_if_absent(&shared.join("b"), b"x").unwrap();
    fs::write(shared.join("any"), b"x").unwrap();
    assert_eq!(mode(&shared.join("b")), mode(&shared.join("any")));
    open_or_create(&private.join("LOCK")).unwrap();
    assert_eq!(mode(&private.join("LOCK")), 0o600);
    // What is there is somebody's decision.
    create_private_dir(&shared).unwrap();
    assert_eq!(mode(&shared), mode(&dir.path().join("any")));
}

#[cfg(feature = "fault-injection")]
#[test]
fn a_rule_hits_its_step_under_its_path_as_often_as_it_says() {
    use faults::{Fault, under};
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str| put_if_absent(&dir.path().join(name), b"0123");
    let errno = |result: io::Result<bool>| result.unwrap_err().raw_os_error();
    let elsewhere = tempfile::tempdir().unwrap();
    let _other = under(elsewhere.path()).then(Fault::Fails(EIO));

    let second = under(dir.path()).step(Step::Write).nth(2);
    let second = second.then(Fault::HalfDone(ENOSPC));
    assert!(put("a").unwrap());
    assert_eq!(errno(put("b")), Some(ENOSPC));
    assert!(put("b").unwrap());
    assert_eq!(second.hits(), 1);
    drop(second);

    let linked = under(dir.path()).name_ends("c").step(Step::Link);
    let linked = linked.then(Fault::DoneButFails(EIO));
    assert!(put("d").unwrap());
    assert_eq!(errno(put("c")), Some(EIO));
    assert_eq!(names(dir.path()), ["a", "b", "c", "d"]);
    drop(linked);

    let hanging = under(dir.path()).step(Step::Sync).then(Fault::Hangs);
    std::thread::scope(|scope| {
        let task = scope.spawn(|| put("e"));
        while hanging.hits() == 0 {
            std::thread::yield_now();
        }
        assert!(!dir.path().join("e").exists());
        hanging.release();
        assert!(task.join().unwrap().unwrap());
    });
}

#[cfg(feature = "fault-injection")]
#[test]
fn a_directory_takes_files_or_says_why_and_may_be_full_for_now() {
    use faults::{Fault, under};
    const EIO: i32 = 5;
    const EACCES: i32 = 13;
    const ENOSPC: i32 = 28;
    let dir = tempfile::tempdir().unwrap();
    takes_files(dir.path()).unwrap();
    for (error, refused) in [(EACCES, true), (EIO, true), (ENOSPC, false)] {
        let rule = under(dir.path()).step(Step::Create);
        let rule = rule.then(Fault::Fails(error));
        let said = takes_files(dir.path()).err();
        assert_eq!(rule.hits(), 1);
        let said = said.map(|said| said.raw_os_error());
        assert_eq!(said, refused.then_some(Some(error)));
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
    let gone = takes_files(&dir.path().join("gone")).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_failed_put_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(put_if_absent(&dir.path().join("gone/one"), b"x").is_err());
    assert_eq!(names(dir.path()), Vec::<String>::new());
}
