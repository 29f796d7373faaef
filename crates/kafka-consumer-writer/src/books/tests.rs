use super::*;

fn totals(stored: u64) -> Totals {
    Totals {
        stored,
        ..Totals::default()
    }
}

fn find(books: &Books, partition: i32, stored: u64) {
    books.listed(PartitionId(partition));
    let next = Offset(stored.try_into().unwrap());
    books.found(PartitionId(partition), Some((next, totals(stored))));
}

/// A chain with all stored up to `end`.
fn memory(end: i64) -> Memory {
    Memory {
        window: crate::window::Window::new(1),
        end: pipeline_core::store::ChainEnd {
            next: Offset(end),
            last: None,
            totals: totals(end.unsigned_abs()),
            last_message: None,
        },
        aside: std::collections::BTreeSet::new(),
    }
}

#[test]
fn all_of_the_log_of_a_chain_that_does_not_answer_is_not_yet_read_until_it_does() {
    let books = Books::default();
    let (now, hung, slow) = (Instant::now(), PartitionId(0), PartitionId(1));
    let lag = |partition| books.lock().chapter(partition).lag();
    for partition in [hung, slow] {
        books.listed(partition);
        books.log_end(partition, Offset(10));
        assert_eq!(lag(partition), Some(10));
    }
    books.found(slow, Some((Offset(7), totals(7))));
    assert_eq!((lag(slow), books.lock().sums), (Some(3), totals(7)));
    // Its take-over was faster than its look at the start.
    books.take([slow]);
    books.lock().chapter(slow).next = Some(Offset(9));
    books.found(slow, Some((Offset(7), totals(7))));
    assert_eq!(lag(slow), Some(1));
    // Another process has it when it answers at last.
    books.assigned(now);
    books.tick(now + KEPT_AFTER_LETTING_GO, 0);
    books.found(hung, Some((Offset(8), totals(8))));
    assert_eq!(books.lock().sums, totals(7));
    assert_eq!(books.partitions(), [slow]);
}

#[test]
fn all_of_the_log_of_a_partition_taken_anew_is_not_yet_read_until_its_chain_is() {
    let books = Books::default();
    let (now, partition) = (Instant::now(), PartitionId(0));
    let lag = || books.lock().chapter(partition).lag();
    find(&books, 0, 7);
    let first = books.take([partition]);
    books.log_end(partition, Offset(10));
    assert_eq!(lag(), Some(3), "it is in the books");
    assert!(books.let_go(partition, first, now));
    books.tick(now + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.lock().sums, totals(0), "another process's");
    let holder = books.take([partition]);
    books.log_end(partition, Offset(12));
    // Its load ends in trouble again and again.
    for _ in 0..2 {
        books.halt(partition, holder, None);
        assert_eq!((lag(), books.lock().sums), (Some(12), totals(0)));
    }
    books.chain(partition, holder, &memory(9));
    assert_eq!((lag(), books.lock().sums), (Some(3), totals(9)));
    // A chain that was not begun when it was looked at is no different.
    let begun_later = PartitionId(1);
    books.listed(begun_later);
    books.log_end(begun_later, Offset(5));
    books.found(begun_later, None);
    assert_eq!(books.lock().chapter(begun_later).lag(), Some(5));
}

#[test]
fn a_partition_given_up_stays_in_the_sums_until_another_has_surely_taken_it() {
    let books = Books::default();
    let now = Instant::now();
    find(&books, 0, 5);
    find(&books, 1, 7);
    let first = books.take([PartitionId(0), PartitionId(1)]);
    books.assigned(now);
    assert_eq!(books.lock().sums, totals(12));
    assert!(books.let_go(PartitionId(0), first, now));
    books.tick(now + KEPT_AFTER_LETTING_GO / 2, 0);
    assert_eq!(books.lock().sums, totals(12));
    books.tick(now + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.lock().sums, totals(7));
    // Taken again in time, it never leaves.
    let second = books.take([PartitionId(1)]);
    assert!(books.let_go(PartitionId(1), second, now));
    books.take([PartitionId(1)]);
    books.tick(now + KEPT_AFTER_LETTING_GO * 2, 0);
    assert_eq!(books.lock().sums, totals(7));
}

#[test]
fn a_member_that_hears_late_that_it_is_out_takes_nothing_from_the_next_one() {
    let books = Books::default();
    let (now, partition) = (Instant::now(), PartitionId(0));
    find(&books, 0, 5);
    let out = books.take([partition]);
    let next = books.take([partition]);
    books.chain(partition, next, &memory(9));
    // What it had saved itself, a while ago.
    books.chain(partition, out, &memory(7));
    books.halt(partition, out, Some(HaltReason::Damaged));
    assert!(!books.let_go(partition, out, now));
    books.tick(now + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.lock().sums, totals(9));
    assert_eq!(books.lock().chapter(partition).holder, Some(next));
    assert!(!books.is_halted(partition));
    assert!(books.let_go(partition, next, now));
    assert_eq!(books.lock().chapter(partition).holder, None);
}

#[test]
fn chains_found_at_the_start_that_others_hold_leave_the_sums_too() {
    let books = Books::default();
    let now = Instant::now();
    find(&books, 0, 5);
    find(&books, 1, 7);
    // Nothing is assigned yet: after a kill, that takes the dead member's session timeout.
    books.tick(now + KEPT_AFTER_LETTING_GO * 2, 0);
    assert_eq!(books.lock().sums, totals(12));
    books.take([PartitionId(0)]);
    books.assigned(now);
    // A later assignment that does not bring it either begins no new wait.
    books.assigned(now + KEPT_AFTER_LETTING_GO / 2);
    books.tick(now + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.lock().sums, totals(5));
    assert_eq!(books.partitions(), [PartitionId(0)]);
    // An answer that comes late brings nothing back.
    books.log_end(PartitionId(1), Offset(9));
    assert_eq!(books.partitions(), [PartitionId(0)]);
}

#[test]
fn what_is_in_the_log_of_a_partition_that_nobody_has_read_is_not_yet_read() {
    let books = Books::default();
    let (now, all) = (Instant::now(), [0, 1].map(PartitionId));
    let lag = |partition| books.lock().chapter(partition).lag();
    // Before the group has given it to anybody.
    books.in_topic(all, now);
    assert_eq!(lag(all[0]), None);
    for partition in all {
        books.log_end(partition, Offset(5));
        assert_eq!(lag(partition), Some(5));
    }
    books.take([all[0]]);
    books.assigned(now);
    books.tick(now + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.partitions(), [all[0]], "the other one is another's");
    // Partitions that the topic gets later wait for the group; the other one does not come back.
    let grown = PartitionId(2);
    books.in_topic([all[0], all[1], grown], now);
    books.log_end(grown, Offset(4));
    assert_eq!(lag(grown), Some(4));
    assert_eq!(books.partitions(), [all[0], grown]);
    books.tick(now + DEALT_WITHIN, 0);
    assert_eq!(lag(grown), Some(4), "nobody has it yet");
    books.tick(now + DEALT_WITHIN + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.partitions(), [all[0]]);
}

/// Its totals and its lag are those of its chain, not those of the moment when it was given up, or
/// nothing.
#[test]
fn what_others_store_is_read_as_long_as_it_is_in_these_books() {
    let books = Books::default();
    let (now, [given_up, grown]) = (Instant::now(), [0, 1].map(PartitionId));
    let lag = |partition| books.lock().chapter(partition).lag();
    books.assigned(now);
    let holder = books.take([given_up]);
    books.chain(given_up, holder, &memory(10));
    books.in_topic([given_up, grown], now);
    for partition in [given_up, grown] {
        books.log_end(partition, Offset(50));
    }
    assert_eq!(books.others_behind(), [grown], "the other one is ours");
    books.let_go(given_up, holder, now);
    assert_eq!(books.others_behind(), [given_up, grown]);
    books.gone_on(given_up, (Offset(50), totals(50)));
    books.gone_on(grown, (Offset(30), totals(30)));
    assert_eq!((lag(given_up), lag(grown)), (Some(0), Some(20)));
    assert_eq!(books.lock().sums, totals(80));
    assert_eq!(books.others_behind(), [grown]);
    // A late look takes nothing back, and none changes what a member here has.
    books.gone_on(grown, (Offset(20), totals(20)));
    let holder = books.take([given_up]);
    books.chain(given_up, holder, &memory(50));
    books.gone_on(given_up, (Offset(60), totals(60)));
    assert_eq!((lag(given_up), lag(grown)), (Some(0), Some(20)));
    assert_eq!(books.lock().sums, totals(80));
    // They leave the books as ever.
    books.tick(now + DEALT_WITHIN + KEPT_AFTER_LETTING_GO, 0);
    assert_eq!(books.partitions(), [given_up]);
}

#[test]
fn all_of_a_log_that_is_not_the_chains_is_not_yet_read() {
    let (books, partition) = (Books::default(), PartitionId(0));
    let lag = || books.lock().chapter(partition).lag();
    for halt in [
        HaltReason::OtherTopic,
        HaltReason::LogTruncated,
        HaltReason::OtherMessage,
    ] {
        let holder = books.take([partition]);
        books.chain(partition, holder, &memory(1_000));
        books.log_end(partition, Offset(500));
        books.halt(partition, holder, Some(halt));
        assert_eq!((lag(), books.lock().sums), (Some(500), totals(1_000)));
        // Also while it is looked at anew, by whoever has it then.
        let holder = books.take([partition]);
        assert_eq!(lag(), Some(500));
        books.log_end(partition, Offset(1_200));
        books.chain(partition, holder, &memory(1_000));
        assert_eq!(lag(), Some(200), "it has gone on");
    }
}

#[test]
fn the_lag_is_kept_as_long_as_the_totals_and_said_once_it_is_known() {
    let books = Books::default();
    let now = Instant::now();
    let lag = |partition| books.lock().chapter(PartitionId(partition)).lag();
    let holder = books.take([PartitionId(0)]);
    books.log_end(PartitionId(0), Offset(10));
    assert_eq!(lag(0), Some(10), "the chain has not been read yet");
    books.halt(PartitionId(0), holder, Some(HaltReason::Damaged));
    assert_eq!(lag(0), Some(10), "and cannot be");
    find(&books, 1, 7);
    assert_eq!(lag(1), None, "the log has not been asked yet");
    let begun = books.lock().ends_known;
    books.ends_known(begun + Duration::from_secs(5));
    books.shown(now, || {
        assert!(books.state.try_lock().is_err(), "nothing changes meanwhile");
    });
    books.log_end(PartitionId(1), Offset(10));
    assert_eq!(lag(1), Some(3), "also before anything is assigned");
    let holder = books.take([PartitionId(1)]);
    books.let_go(PartitionId(1), holder, now);
    books.log_end(PartitionId(1), Offset(12));
    assert_eq!(lag(1), Some(5));
}

#[test]
fn a_partition_is_as_far_behind_as_its_oldest_record_that_is_not_in_the_chain() {
    let books = Books::default();
    let (begin, partition) = (Instant::now(), PartitionId(0));
    let second = Duration::from_secs(1);
    let seconds = |now, now_ms| {
        books.tick(now, now_ms);
        books.lock().chapter(partition).lag.seconds(now, now_ms)
    };
    find(&books, 0, 7);
    let holder = books.take([partition]);
    books.log_end(partition, Offset(10));
    // Nobody has read it yet: it counts from when it was seen.
    assert_eq!(seconds(begin, 0), 0.0);
    assert_eq!(seconds(begin + second * 5, 5_000), 5.0);
    // What was read says how long it has been in the log.
    books.oldest_read(partition, holder, Some(1_000));
    assert_eq!(seconds(begin + second * 6, 61_000), 60.0);
    // Stored; whatever is read after that is of its own age.
    books.chain(partition, holder, &memory(10));
    assert_eq!(seconds(begin + second * 7, 62_000), 0.0);
    // A partition that halts is behind by what is known of it.
    books.halt(partition, holder, Some(HaltReason::Damaged));
    books.oldest_read(partition, holder, None);
    books.log_end(partition, Offset(11));
    assert_eq!(seconds(begin + second * 8, 63_000), 0.0);
    assert_eq!(seconds(begin + second * 9, 64_000), 1.0);
}

#[test]
fn a_chain_taken_back_that_halts_counts_with_its_totals_and_another_log_is_all_unread() {
    let books = Books::default();
    let partition = PartitionId(0);
    let of = |books: &Books| {
        let mut state = books.lock();
        (state.sums, state.chapter(partition).lag())
    };
    // Long given up: nothing of it is known here any more.
    let holder = books.take([partition]);
    books.log_end(partition, Offset(4));
    books.found_halted(partition, (Offset(7), totals(7)), true);
    assert_eq!(
        of(&books),
        (totals(7), Some(4)),
        "before it is said to halt"
    );
    books.halt(partition, holder, Some(HaltReason::OtherTopic));
    assert_eq!(of(&books), (totals(7), Some(4)));
    assert_eq!(
        books
            .lock()
            .chapters
            .values()
            .filter(|it| it.unread)
            .count(),
        0
    );
    books.log_end(partition, Offset(9));
    books.found_halted(partition, (Offset(7), totals(7)), true);
    assert_eq!(of(&books), (totals(7), Some(9)));
}

#[test]
fn a_chain_that_halts_does_so_until_somebody_could_judge_it_anew() {
    let (books, partition) = (Books::default(), PartitionId(0));
    let holder = books.take([partition]);
    let loaded = |outcome, halt| {
        books.loaded(partition, holder, &outcome, halt);
        books.is_halted(partition)
    };
    assert!(!loaded(LoadOutcome::Retry, None));
    assert!(loaded(LoadOutcome::Halt, Some(HaltReason::Damaged)));
    assert!(loaded(LoadOutcome::Retry, None), "Kafka does not answer");
    assert!(!loaded(LoadOutcome::Ready(Box::new(memory(7))), None));
    assert!(!loaded(LoadOutcome::Retry, None));
}

#[test]
fn what_a_fetch_says_late_of_the_logs_end_takes_nothing_out_of_the_books() {
    let books = Books::default();
    let partition = PartitionId(0);
    let lag = || books.lock().chapter(partition).lag();
    find(&books, 0, 7);
    books.take([partition]);
    books.log_reaches(partition, Offset(9));
    assert_eq!(lag(), Some(2), "the first to say it");
    books.log_end(partition, Offset(30));
    // On the way since before that, or of a leader that has just begun.
    books.log_reaches(partition, Offset(12));
    assert_eq!(lag(), Some(23));
    books.log_reaches(partition, Offset(31));
    assert_eq!(lag(), Some(24));
    // Looked up: the log was cut off.
    books.log_end(partition, Offset(20));
    assert_eq!(lag(), Some(13));
}
