//! Fixed seeds: the guards hold, and the checker notices when one of them is missing.

use fettle_sim::{Options, Sabotage, campaign, campaign_with, run};

/// The end of a story, for a failing test to print.
fn tail(story: &[String]) -> String {
    story[story.len().saturating_sub(80)..].join("\n")
}

#[test]
fn three_hundred_seeds_break_no_invariant_and_see_every_situation() {
    let summary = campaign(0..300);
    if let Some(first) = summary.violations.first() {
        panic!("{first:#?}\n{}", tail(&summary.story));
    }
    assert_eq!(summary.never, [] as [&str; 0], "{:#?}", summary.sometimes);
    assert!(summary.skipped_share < 0.5, "most chances came to nothing: {}", summary.skipped_share);
    println!(
        "{} seeds, {} events, {:.0} % skipped, {:.1} s, {:.0} host-years an hour",
        summary.seeds,
        summary.events,
        summary.skipped_share * 100.0,
        summary.seconds,
        summary.host_years_per_hour
    );
    println!("{:#?}", summary.sometimes);
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    let options = Options { story: true, ..Options::default() };
    let long = |seed: &u64| run(*seed, &options).story.len() > 50;
    let seed = (7..20).find(long).expect("some seed has a story worth telling");
    let one = run(seed, &options).story;
    assert_eq!(one, run(seed, &options).story);
    assert_ne!(one, run(seed + 1, &options).story);
}

/// Each of these guards is switched off in turn, and missed.
fn are_missed(guards: &[Sabotage]) {
    for guard in guards {
        let options = Options { sabotage: Some(*guard), ..Options::default() };
        let found = (0..600).find_map(|seed| run(seed, &options).violations.pop());
        match found {
            Some(violation) => println!(
                "{guard:?}: {} (seed {}): {}",
                violation.invariant, violation.seed, violation.detail
            ),
            None => panic!("{guard:?} is off, and nothing was noticed in 600 seeds"),
        }
    }
}

#[test]
fn the_checker_notices_every_guard_of_executors_that_is_switched_off() {
    are_missed(&Sabotage::ALL[..12]);
}

#[test]
fn the_checker_notices_every_guard_of_agents_and_of_the_traffic_that_is_switched_off() {
    are_missed(&Sabotage::ALL[12..19]);
}

#[test]
fn the_checker_notices_every_guard_of_gates_that_is_switched_off() {
    are_missed(&Sabotage::ALL[19..30]);
}

#[test]
fn the_checker_notices_every_guard_of_the_planner_that_is_switched_off() {
    are_missed(&Sabotage::ALL[30..]);
}

#[test]
fn a_campaign_that_finds_something_tells_the_story_of_the_first_seed() {
    let options = Options { sabotage: Some(Sabotage::NeverRedeem), ..Options::default() };
    let summary = campaign_with(0..20, &options);
    let first = summary.violations.first().expect("the guard is off");
    assert_eq!(summary.story, run(first.seed, &Options { story: true, ..options }).story);
    assert!(summary.story.len() > 10);
}
