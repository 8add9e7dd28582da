use super::*;
use proptest::prelude::*;

fn policy(sections: &str) -> Policy {
    let text =
        format!("[policy]\nname = \"p\"\nselect = \"all\"\n[[ring]]\nname = \"all\"\n{sections}");
    Policy::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn window(days: &str, start: &str, duration: &str, zone: &str) -> String {
    let days = if days.is_empty() { String::new() } else { format!("days = {days}\n") };
    format!(
        "[[window]]\n{days}start = \"{start}\"\nduration = \"{duration}\"\ntime-zone = \"{zone}\"\n"
    )
}

fn blackout(from: &str, to: &str) -> String {
    format!("[[blackout]]\nfrom = {from}\nto = {to}\nreason = \"sales\"\n")
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// `open until T`, `closed until T` or `blackout until T`.
fn state(policy: &Policy, now: &str) -> String {
    let state = policy.window_at(at(now));
    let time = |t: Option<Timestamp>| t.map_or("never".to_owned(), |t| t.to_string());
    match state.hold {
        None => format!("open until {}", time(state.closes_at)),
        Some(Hold::WindowClosed { opens_at }) => format!("closed until {}", time(opens_at)),
        Some(Hold::Blackout { until, .. }) => format!("blackout until {until}"),
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_blackout_declared_since_holds_what_was_approved_before_and_nothing_else_of_it_does() {
    let old = policy(&window("", "22:00", "4h", "UTC"));
    let newer = policy(&(window("", "01:00", "1h", "UTC") + &blackout("2026-11-27", "2026-11-29")));
    let held = |now: &str| {
        let state = old.window_at(at(now)).held_by(&newer, at(now));
        (state.hold.map(|hold| hold.code()), state.closes_at)
    };
    // Its own window stays, though the newer text has another one.
    assert_eq!(held("2026-11-25T23:00:00Z"), (None, Some(at("2026-11-26T02:00:00Z"))));
    // It closes where the blackout begins.
    assert_eq!(held("2026-11-26T23:00:00Z"), (None, Some(at("2026-11-27T00:00:00Z"))));
    assert_eq!(held("2026-11-27T23:00:00Z"), (Some("blackout"), None));
    assert_eq!(held("2026-11-27T12:00:00Z"), (Some("window-closed"), None));
    // It ends with the last day.
    assert_eq!(held("2026-11-30T00:30:00Z"), (None, Some(at("2026-11-30T02:00:00Z"))));
}

#[test]
fn without_windows_hosts_may_be_changed_at_any_time() {
    assert_eq!(state(&policy(""), "2026-11-23T08:00:00Z"), "open until never");
}

#[test]
fn a_window_opens_on_its_days_in_its_zone_and_closes_after_its_duration() {
    let p = policy(&window("[\"sat\", \"sun\"]", "22:00", "4h", "Europe/Berlin"));
    // Monday; the next opening is Saturday 22:00 in Berlin, which is 21:00 UTC in winter.
    assert_eq!(state(&p, "2026-11-23T08:00:00Z"), "closed until 2026-11-28T21:00:00Z");
    assert_eq!(state(&p, "2026-11-28T20:59:59Z"), "closed until 2026-11-28T21:00:00Z");
    assert_eq!(state(&p, "2026-11-28T21:00:00Z"), "open until 2026-11-29T01:00:00Z");
    // Past local midnight it is still Saturday's window.
    assert_eq!(state(&p, "2026-11-29T00:59:59Z"), "open until 2026-11-29T01:00:00Z");
    assert_eq!(state(&p, "2026-11-29T01:00:00Z"), "closed until 2026-11-29T21:00:00Z");
    // In summer, 22:00 in Berlin is 20:00 UTC.
    assert_eq!(state(&p, "2026-07-04T20:00:00Z"), "open until 2026-07-05T00:00:00Z");
    assert_eq!(p.next_opening(at("2026-11-23T08:00:00Z")), Some(at("2026-11-28T21:00:00Z")));
    assert_eq!(p.next_opening(at("2026-11-28T22:00:00Z")), Some(at("2026-11-28T22:00:00Z")));
}

#[test]
fn a_start_that_the_clock_jumps_over_opens_right_after_the_jump() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
    let p = policy(&window("[\"sun\"]", "02:30", "1h", "Europe/Berlin"));
    assert_eq!(state(&p, "2026-03-29T00:59:59Z"), "closed until 2026-03-29T01:00:00Z");
    assert_eq!(state(&p, "2026-03-29T01:00:00Z"), "open until 2026-03-29T02:00:00Z");
    assert_eq!(state(&p, "2026-03-29T02:00:00Z"), "closed until 2026-04-05T00:30:00Z");
    // New York, 8 March 2026: 02:00 becomes 03:00 at 07:00 UTC.
    let p = policy(&window("[\"sun\"]", "02:00", "1h", "America/New_York"));
    assert_eq!(state(&p, "2026-03-08T06:59:59Z"), "closed until 2026-03-08T07:00:00Z");
    assert_eq!(state(&p, "2026-03-08T07:00:00Z"), "open until 2026-03-08T08:00:00Z");
    // Lord Howe Island, 4 October 2026: 02:00 becomes 02:30 (half an hour) at 15:30 UTC of the day before.
    let p = policy(&window("[\"sun\"]", "02:15", "1h", "Australia/Lord_Howe"));
    assert_eq!(state(&p, "2026-10-03T15:29:59Z"), "closed until 2026-10-03T15:30:00Z");
    // Beirut, 29 March 2026: midnight itself does not exist.
    let p = policy(&window("[\"sun\"]", "00:00", "2h", "Asia/Beirut"));
    assert_eq!(state(&p, "2026-03-28T21:59:59Z"), "closed until 2026-03-28T22:00:00Z");
    assert_eq!(state(&p, "2026-03-28T22:00:00Z"), "open until 2026-03-29T00:00:00Z");
    // Samoa went without 30 December 2011, a Friday: its window opens as the 31st begins.
    let p = policy(&window("[\"fri\"]", "12:00", "1h", "Pacific/Apia"));
    assert_eq!(state(&p, "2011-12-30T09:00:00Z"), "closed until 2011-12-30T10:00:00Z");
}

#[test]
fn a_start_that_comes_twice_opens_once_the_first_time() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC; 02:30 is at 00:30 and again at 01:30 UTC.
    let p = policy(&window("[\"sun\"]", "02:30", "45m", "Europe/Berlin"));
    assert_eq!(state(&p, "2026-10-25T00:29:59Z"), "closed until 2026-10-25T00:30:00Z");
    assert_eq!(state(&p, "2026-10-25T00:30:00Z"), "open until 2026-10-25T01:15:00Z");
    assert_eq!(state(&p, "2026-10-25T01:30:00Z"), "closed until 2026-11-01T01:30:00Z");
}

#[test]
fn the_duration_is_elapsed_time_across_a_change_of_the_clock() {
    let p = policy(&window("[\"sat\"]", "23:00", "6h", "Europe/Berlin"));
    // Spring: 23:00 to 06:00 on the clock. Autumn: 23:00 to 04:00. Six hours both.
    assert_eq!(state(&p, "2026-03-28T22:00:00Z"), "open until 2026-03-29T04:00:00Z");
    assert_eq!(state(&p, "2026-10-24T21:00:00Z"), "open until 2026-10-25T03:00:00Z");
}

#[test]
fn windows_that_meet_or_overlap_are_one() {
    let two =
        window("[\"mon\"]", "20:00", "4h", "UTC") + &window("[\"tue\"]", "00:00", "2h", "UTC");
    let p = policy(&two);
    assert_eq!(state(&p, "2026-11-23T21:00:00Z"), "open until 2026-11-24T02:00:00Z");
    let always = policy(&window("", "00:00", "1d", "UTC"));
    assert_eq!(state(&always, "2026-11-23T21:00:00Z"), "open until never");
    let week = policy(&window("[\"mon\"]", "06:00", "7d", "UTC"));
    assert_eq!(state(&week, "2026-11-23T05:00:00Z"), "open until never");
}

#[test]
fn a_blackout_closes_windows_from_its_first_local_midnight_to_its_last() {
    let p = policy(
        &(window("", "22:00", "4h", "Europe/Berlin") + &blackout("2026-11-27", "2026-11-29")),
    );
    // Thursday's window ends at midnight in Berlin (23:00 UTC), when the blackout begins.
    assert_eq!(state(&p, "2026-11-26T21:30:00Z"), "open until 2026-11-26T23:00:00Z");
    assert_eq!(state(&p, "2026-11-26T23:00:00Z"), "blackout until 2026-11-29T23:00:00Z");
    // Sunday's window began in the blackout and is open for what is left of it.
    assert_eq!(state(&p, "2026-11-29T23:00:00Z"), "open until 2026-11-30T01:00:00Z");
    // The next opening is looked for behind the blackout.
    let p = policy(&(window("", "12:00", "4h", "UTC") + &blackout("2026-11-24", "2026-11-25")));
    assert_eq!(state(&p, "2026-11-23T17:00:00Z"), "closed until 2026-11-26T12:00:00Z");
}

#[test]
fn blackouts_that_follow_each_other_are_one() {
    let p = policy(&(blackout("2026-11-24", "2026-11-25") + &blackout("2026-11-26", "2026-11-26")));
    assert_eq!(state(&p, "2026-11-24T01:00:00Z"), "blackout until 2026-11-27T00:00:00Z");
    assert_eq!(state(&p, "2026-11-23T00:00:00Z"), "open until 2026-11-24T00:00:00Z");
}

#[test]
fn an_emergency_ignores_closed_windows_and_keeps_blackouts() {
    let p = policy(
        &(window("[\"sun\"]", "12:00", "1h", "UTC") + &blackout("2026-11-24", "2026-11-25")),
    );
    let open = p.window_for(at("2026-11-23T08:00:00Z"), true);
    assert_eq!(open, WindowState { hold: None, closes_at: Some(at("2026-11-24T00:00:00Z")) });
    assert!(matches!(
        p.window_for(at("2026-11-24T08:00:00Z"), true).hold,
        Some(Hold::Blackout { .. })
    ));
}

#[test]
fn a_window_that_never_opens_says_so() {
    let p = policy(&(window("", "12:00", "1h", "UTC") + &blackout("2026-01-01", "2030-01-01")));
    assert_eq!(p.next_opening(at("2026-11-23T08:00:00Z")), None);
    let mut p = policy(&window("", "12:00", "1h", "UTC"));
    p.windows[0].time_zone = "Nowhere/Land".into();
    assert_eq!(state(&p, "2026-11-23T12:30:00Z"), "closed until never");
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
];

proptest! {
    /// What it says about the future is what it says when the future has come.
    #[test]
    fn openings_and_closings_are_as_foretold(
        zone in prop::sample::select(ZONES.to_vec()),
        days in prop::collection::vec(1u8..=7, 0..3),
        start_minute in 0u32..1440,
        minutes in 1u64..3000,
        out in (0i64..60, 0i64..5),
        seconds in 1_600_000_000i64..2_000_000_000,
    ) {
        let mut p = policy("");
        p.windows = vec![Window { days, recurrence: None, after_days: 0, start_minute, duration_seconds: minutes * 60, time_zone: zone.to_owned() }];
        let now = Timestamp::from_second(seconds).unwrap();
        let first = jiff::tz::TimeZone::UTC.to_datetime(now).date().checked_add(Span::new().days(out.0)).unwrap();
        let to = first.checked_add(Span::new().days(out.1)).unwrap();
        p.blackouts = vec![Blackout { from: first, to, reason: "x".into() }];
        let state = p.window_at(now);
        let second = SignedDuration::from_secs(1);
        match &state.hold {
            None => {
                if let Some(closes) = state.closes_at {
                    prop_assert!(closes > now);
                    prop_assert_eq!(p.window_at(closes - second).hold, None);
                    prop_assert!(p.window_at(closes).hold.is_some());
                }
            }
            Some(Hold::WindowClosed { opens_at: Some(opens) }) => {
                prop_assert!(*opens > now);
                prop_assert!(p.window_at(*opens - second).hold.is_some());
                prop_assert_eq!(p.window_at(*opens).hold, None);
                prop_assert_eq!(p.next_opening(now), Some(*opens));
            }
            Some(Hold::Blackout { until, .. }) => {
                prop_assert!(*until > now);
                let then = p.window_at(*until).hold;
                let still = matches!(then, Some(Hold::Blackout { .. }));
                prop_assert!(!still);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn windows_open_by_rules_and_days_after_them_and_blackouts_take_them_out() {
    let by_rule = |rule: &str, after: &str| {
        let window = window("", "22:00", "4h", "Europe/Berlin");
        policy(&format!(
            "{window}rrule = \"{rule}\"\n{after}{}",
            blackout("2027-02-10", "2027-02-20")
        ))
    };
    let openings = |policy: &Policy| {
        let found = policy.openings(at("2027-01-01T00:00:00Z"), 3);
        found.into_iter().map(|(from, to)| format!("{from} {}", to.unwrap())).collect::<Vec<_>>()
    };
    // The second Saturday of February falls into the blackout.
    assert_eq!(
        openings(&by_rule("FREQ=MONTHLY;BYDAY=2SA", "")),
        [
            "2027-01-09T21:00:00Z 2027-01-10T01:00:00Z",
            "2027-03-13T21:00:00Z 2027-03-14T01:00:00Z",
            "2027-04-10T20:00:00Z 2027-04-11T00:00:00Z"
        ]
    );
    // Four days after the second Tuesday: in January 2027 not the second Saturday but the third.
    assert_eq!(
        openings(&by_rule("FREQ=MONTHLY;BYDAY=2TU", "after-days = 4\n"))[..2],
        ["2027-01-16T21:00:00Z 2027-01-17T01:00:00Z", "2027-03-13T21:00:00Z 2027-03-14T01:00:00Z"]
    );
    // Without windows it is open for good.
    assert_eq!(
        policy("").openings(at("2027-01-01T00:00:00Z"), 3),
        [(at("2027-01-01T00:00:00Z"), None)]
    );
    // In the middle of a window the first opening begins now.
    let now = at("2027-01-09T23:00:00Z");
    assert_eq!(
        by_rule("FREQ=MONTHLY;BYDAY=2SA", "").openings(now, 1),
        [(now, Some(at("2027-01-10T01:00:00Z")))]
    );
}
