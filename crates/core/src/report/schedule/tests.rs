use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(rule: &str, time: &str, zone: &str, covers: &str) -> Schedule {
    Schedule {
        recurrence: Recurrence::parse(rule).unwrap(),
        at: time.parse().unwrap(),
        time_zone: zone.to_owned(),
        covers: covers.parse().unwrap(),
        policy: None,
        formats: BTreeSet::from([Format::Html]),
        keep: Some(12),
        webhook: None,
    }
}

fn made(due: Timestamp) -> State {
    let period = Period { from: due, to: due };
    let run = Run {
        due,
        made_at: due,
        missed: 0,
        period,
        files: vec![],
        delivery: None,
        left_out: vec![],
    };
    State { last: Some(run), trying: None }
}

#[test]
fn a_report_is_due_by_the_local_clock_and_covers_the_local_month() {
    let monthly = schedule("FREQ=MONTHLY;BYMONTHDAY=1", "06:00", "Europe/Berlin", "last-month");
    // Summer ends in between: the month is an hour longer.
    assert_eq!(monthly.next(at("2026-10-15T00:00:00Z")), Some(at("2026-11-01T05:00:00Z")));
    let october = monthly.period(at("2026-11-01T05:00:00Z"));
    assert_eq!(
        (october.from, october.to),
        (at("2026-09-30T22:00:00Z"), at("2026-10-31T23:00:00Z"))
    );
    let weekly = schedule("FREQ=WEEKLY;BYDAY=TU", "06:00", "UTC", "last-week");
    let week = weekly.period(at("2026-12-01T06:00:00Z"));
    assert_eq!((week.from, week.to), (at("2026-11-23T00:00:00Z"), at("2026-11-30T00:00:00Z")));
    let days = schedule("FREQ=DAILY", "06:00", "UTC", "7d").period(at("2026-12-01T06:00:00Z"));
    assert_eq!((days.from, days.to), (at("2026-11-24T06:00:00Z"), at("2026-12-01T06:00:00Z")));
}

#[test]
fn what_was_missed_is_made_up_for_once() {
    let daily = schedule("FREQ=DAILY", "06:00", "UTC", "1d");
    let since = at("2026-11-01T00:00:00Z");
    let step = |state: &State, now: &str| decide(&daily, since, state, None, at(now));
    // Nothing before it was set.
    let first = at("2026-11-01T06:00:00Z");
    let not_due = Step::Wait { hold: Hold::NotDue { at: Some(first) }, until: Some(first) };
    assert_eq!(step(&State::default(), "2026-11-01T05:59:59Z"), not_due);
    assert_eq!(
        step(&State::default(), "2026-11-01T06:00:00Z"),
        Step::Make { due: first, missed: 0 }
    );
    // Four days without a server: the newest is made, the three before it are counted.
    let newest = at("2026-11-05T06:00:00Z");
    assert_eq!(step(&made(first), "2026-11-05T09:00:00Z"), Step::Make { due: newest, missed: 3 });
    let next = at("2026-11-06T06:00:00Z");
    assert_eq!(
        step(&made(newest), "2026-11-05T09:00:00Z"),
        Step::Wait { hold: Hold::NotDue { at: Some(next) }, until: Some(next) }
    );
}

#[test]
fn what_fails_is_tried_again_later_each_time_and_a_newer_one_at_once() {
    let daily = schedule("FREQ=DAILY", "06:00", "UTC", "1d");
    let since = at("2026-11-01T00:00:00Z");
    let due = at("2026-11-01T06:00:00Z");
    let mut state = State::default();
    let mut waits = Vec::new();
    for _ in 0..8 {
        state.failed(due, "no space".to_owned(), due);
        let Step::Wait { hold: Hold::ReportNotMade { why, again_at, .. }, until } =
            decide(&daily, since, &state, None, due)
        else {
            panic!("it is held");
        };
        assert_eq!((why.as_str(), until), ("no space", Some(again_at)));
        waits.push(again_at.duration_since(due).as_secs());
        assert_eq!(
            decide(&daily, since, &state, None, again_at),
            Step::Make { due, missed: 0 },
            "its time has come"
        );
    }
    assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    let tomorrow = at("2026-11-02T06:00:00Z");
    assert_eq!(
        decide(&daily, since, &state, None, tomorrow),
        Step::Make { due: tomorrow, missed: 1 }
    );
}

#[test]
fn a_server_out_of_a_backup_sends_nothing_until_a_person_lets_it() {
    let daily = schedule("FREQ=DAILY", "06:00", "UTC", "1d");
    let since = at("2026-11-01T00:00:00Z");
    let hold = Hold::Restored { from: since };
    let now = at("2026-11-03T07:00:00Z");
    assert_eq!(
        decide(&daily, since, &State::default(), Some(hold.clone()), now),
        Step::Wait { hold, until: None }
    );
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_write() {
    let good = schedule("FREQ=DAILY", "06:00", "UTC", "1d");
    assert!(good.check().is_ok());
    let wrong = |change: fn(&mut Schedule)| {
        let mut it = good.clone();
        change(&mut it);
        let problem = it.check().unwrap_err();
        assert_eq!(problem.code, "bad-schedule");
        assert!(!problem.hint.is_empty());
        problem.message
    };
    assert!(wrong(|s| s.time_zone = "Mars/Olympus".to_owned()).contains("no time zone"));
    assert!(wrong(|s| s.formats.clear()).contains("no format"));
    assert!(wrong(|s| s.keep = Some(0)).contains("at least one"));
    assert!(wrong(|s| s.keep = None).contains("where its reports go"));
    for url in ["file:///etc/passwd", "https://u:p@example.org/", "https://", "ftp://x"] {
        let mut it = good.clone();
        it.webhook = Some(url.to_owned());
        assert!(it.check().unwrap_err().message.contains("webhook's address"), "{url}");
    }
    for name in ["", "..", "a/b", "A", "-a", &"a".repeat(65)] {
        assert!(check_name(name).is_err(), "{name}");
    }
    assert!(check_name("monthly-2").is_ok());
    for covers in ["", "0d", "367d", "month", "d"] {
        assert!(covers.parse::<Covers>().is_err(), "{covers}");
    }
}

proptest! {
    /// Whatever is looked at and however seldom: each time that comes due is made or counted as missed, once.
    #[test]
    fn nothing_that_comes_due_is_lost_or_made_twice(
        looks in prop::collection::vec(1_i64..400_000, 1..40),
        rule in prop::sample::select(vec!["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,TH", "FREQ=MONTHLY;BYDAY=2SA"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ) {
        let it = schedule(rule, "02:30", zone, "1d");
        let since = at("2026-03-01T00:00:00Z");
        let (mut now, mut state, mut counted) = (since, State::default(), 0);
        for seconds in looks {
            now += jiff::SignedDuration::from_secs(seconds);
            if let Step::Make { due, missed } = decide(&it, since, &state, None, now) {
                prop_assert!(due <= now);
                counted += u64::from(missed) + 1;
                state = made(due);
            }
        }
        let mut all = 0;
        let mut next = it.next(since);
        while let Some(one) = next.filter(|one| *one <= now) {
            all += 1;
            next = it.next(one);
        }
        prop_assert_eq!(counted, all);
    }
}
