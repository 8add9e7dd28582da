use super::*;
use fettle_core::assignment::{ApplyOrder, Assignment, Order};
use fettle_core::transaction::{Outcome, Step, StepFacts};

fn assignment() -> Assignment {
    Assignment {
        schema: 1,
        id: "ro-1/h-1/1".into(),
        host: "h-1".into(),
        generation: 1,
        rollout: "ro-1".into(),
        plan: Digest::of(b"plan"),
        issued_at: Timestamp::UNIX_EPOCH,
        not_before: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        order: Order::Apply(ApplyOrder::default()),
    }
}

fn events() -> Vec<TxEvent> {
    vec![
        TxEvent::Begun { assignment: assignment() },
        TxEvent::Started { step: Step::Preflight },
        TxEvent::Finished {
            step: Step::Preflight,
            facts: StepFacts { milliseconds: 7, ..StepFacts::default() },
        },
        TxEvent::Started { step: Step::Stage },
        TxEvent::Ended { outcome: Outcome::Patched },
    ]
}

fn written(directory: &Path) -> (Vec<u8>, Vec<Entry>) {
    let (mut journal, contents) = Journal::create(directory).unwrap();
    assert_eq!(contents.entries, []);
    let entries =
        events().into_iter().map(|e| journal.append(Timestamp::UNIX_EPOCH, e).unwrap()).collect();
    (fs::read(directory.join("journal")).unwrap(), entries)
}

/// Offsets at which a whole record ends.
fn ends(bytes: &[u8]) -> Vec<usize> {
    memchr::memchr_iter(b'\n', bytes).map(|i| i + 1).collect()
}

#[test]
fn what_was_written_reads_back_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (_, entries) = written(dir.path());
    let (mut journal, contents) = Journal::open(dir.path()).unwrap();
    assert_eq!(contents.entries, entries);
    assert_eq!(contents.damage, None);
    let more = journal
        .append(Timestamp::UNIX_EPOCH, TxEvent::UndoStarted { reason: "ü\n".into() })
        .unwrap();
    assert_eq!(more.sequence, entries.len() as u64);
    drop(journal);
    assert_eq!(read(dir.path()).unwrap().entries.last(), Some(&more));
}

#[test]
fn a_journal_cut_at_any_byte_gives_the_whole_records_before_the_cut_and_takes_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, entries) = written(dir.path());
    let ends = ends(&bytes);
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let contents = parse(&bytes[..cut]);
        assert_eq!(contents.entries, entries[..whole], "cut at {cut}");
        assert_eq!(contents.damage, None, "cut at {cut}");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), &bytes[..cut]).unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(Timestamp::UNIX_EPOCH, events()[1].clone()).unwrap();
        let again = read(dir.path()).unwrap();
        assert_eq!(again.entries.len(), whole + 1, "cut at {cut}");
        assert_eq!(again.damage, None, "cut at {cut}");
    }
}

#[test]
fn a_byte_flipped_anywhere_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, entries) = written(dir.path());
    let ends = ends(&bytes);
    for offset in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[offset] ^= flip;
            let contents = parse(&bad);
            if contents.version.is_some() {
                assert!(offset < HEADER.len(), "only the header names a version");
                continue;
            }
            // Records before the flip stand; none is altered; the flip is noticed, or it is the last record.
            let before = ends.iter().filter(|end| **end <= offset).count().saturating_sub(1);
            assert!(contents.entries.len() >= before, "flip {flip:#x} at {offset}");
            if offset < HEADER.len() {
                assert_eq!(contents.entries, entries, "flip {flip:#x} at {offset}");
                continue;
            }
            let after = contents.damage.iter().flat_map(|d| &d.after);
            for entry in contents.entries.iter().chain(after) {
                assert_eq!(*entry, entries[entry.sequence as usize], "flip {flip:#x} at {offset}");
            }
            let last = offset >= ends[ends.len() - 2];
            assert!(
                contents.damage.is_some() || (last && contents.entries.len() < entries.len()),
                "{flip:#x} at {offset}"
            );
        }
    }
}

#[test]
fn a_record_lost_in_the_middle_is_damage_and_the_later_ones_are_still_told() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, entries) = written(dir.path());
    let ends = ends(&bytes);
    let mut bad = bytes[..ends[1]].to_vec();
    bad.extend_from_slice(&bytes[ends[2]..]);
    let contents = parse(&bad);
    assert_eq!(contents.entries, entries[..1]);
    assert_eq!(
        contents.damage,
        Some(Damage { offset: ends[1] as u64, after: entries[2..].to_vec() })
    );
    // Opening it keeps what was found, mends the journal, and the damage is told once.
    fs::write(dir.path().join("journal"), &bad).unwrap();
    let (journal, told) = Journal::open(dir.path()).unwrap();
    assert!(told.damage.is_some());
    assert_eq!(fs::read(dir.path().join("journal.damaged")).unwrap(), bad);
    drop(journal);
    assert_eq!(read(dir.path()).unwrap().entries, entries[..1]);
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = written(dir.path());
    let later = [b"fettle-journal 2\n", &bytes[HEADER.len()..]].concat();
    fs::write(dir.path().join("journal"), &later).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("fettle-journal 2"), "{error}");
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), later);
}

#[test]
fn only_one_process_at_a_time_has_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (_held, _) = Journal::create(dir.path()).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse(_))));
}
