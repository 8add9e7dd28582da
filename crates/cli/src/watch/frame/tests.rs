use super::*;
use console::measure_text_width;
use fettle_core::plan::Wave;
use fettle_core::rollout::HostRun;
use fettle_core::{Hold, HostId, RolloutId};
use fettle_wire::api::RolloutRow;
use std::collections::BTreeMap;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-12-01T13:05:09Z")
}

fn wave(ring: &str, traffic: Option<u32>) -> Wave {
    Wave {
        ring: ring.into(),
        hosts: Vec::new(),
        why: String::new(),
        gate: Default::default(),
        soak_seconds: 0,
        after_seconds: 0,
        rolling: false,
        traffic,
    }
}

fn lane(states: &[(&str, u64)]) -> RolloutLane {
    let hosts_by_state = states.iter().map(|(state, n)| ((*state).to_owned(), *n)).collect();
    RolloutLane { hosts_by_state, begins: None, passed_at: None }
}

fn host(name: &str, state: HostState) -> RolloutHost {
    let run: HostRun = serde_json::from_value(serde_json::json!({
        "wave": 1, "state": state, "assignment": null, "generation": null,
        "granted_at": "2026-12-01T13:04:00Z", "ended_at": null, "step": "apply",
        "reported_at": null, "undo_asked": null,
    }))
    .unwrap();
    let id = HostId::from(name);
    RolloutHost { id, name: name.into(), run, transaction: None, steps: BTreeMap::new() }
}

fn rollout(lanes: Vec<RolloutLane>, hosts: Vec<RolloutHost>) -> RolloutDetail {
    let mut by_state: BTreeMap<String, u64> = BTreeMap::new();
    for (state, n) in lanes.iter().flat_map(|lane| &lane.hosts_by_state) {
        *by_state.entry(state.clone()).or_default() += n;
    }
    RolloutDetail {
        row: RolloutRow {
            id: RolloutId("ro-7".into()),
            policy: "web".into(),
            plan: 12,
            phase: Phase::Running,
            wave: 1,
            waves: lanes.len() as u32,
            hosts_by_state: by_state,
            created_at: at("2026-12-01T12:00:00Z"),
            created_by: "anna".into(),
            ended_at: None,
        },
        approvals: Vec::new(),
        waves: (0..lanes.len()).map(|n| wave(&format!("ring-{}", n + 1), None)).collect(),
        lanes,
        hosts,
        traffic: Vec::new(),
        waiting: Vec::new(),
        gate: Vec::new(),
        events: Vec::new(),
    }
}

fn three() -> RolloutDetail {
    let undone = HostState::Undone { reason: "nginx does not come back".into() };
    let mut it = rollout(
        vec![
            lane(&[("patched", 3)]),
            lane(&[("patched", 4), ("undone", 1), ("redeemed", 2), ("pending", 3)]),
            lane(&[("pending", 20)]),
        ],
        vec![
            host("web-4", HostState::Redeemed),
            host("web-5", HostState::Redeemed),
            host("web-6", undone),
        ],
    );
    it.lanes[0].passed_at = Some(at("2026-12-01T13:00:00Z"));
    it.lanes[2].begins = Some(at("2026-12-04T12:00:00Z"));
    it.waiting = vec![fettle_core::rollout::Waiting {
        host: None,
        hold: Hold::WaveRunning { wave: 1, unfinished: 5 },
    }];
    it
}

#[test]
fn the_picture_says_how_far_each_wave_is_who_is_at_work_and_who_went_wrong() {
    let text = frame(&three(), now(), 120, 40).join("\n");
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    insta::assert_snapshot!(text, @r"
    ▶ ro-7 of plan 12 by policy `web`: running, wave 2 of 3, 1:05:09
      21 % of 33 patched   ● 7 patched  ◀ 1 undone  ▶ 2 redeemed  ○ 23 pending

        1 ring-1       ●●●                   3 of 3          gate passed 5 min ago
    ▶   2 ring-2       ●●●●◀▶▶○○○            4 of 10
        3 ring-3       ○○○○○○○○○○○○○○○○○○○○  0 of 20         begins in 2 d, or later

    went wrong (1)
      ◀ web-6                    undone         1 min ago  nginx does not come back

    at work (2)
      ▶ web-4                    redeemed       1 min ago  apply
      ▶ web-5                    redeemed       1 min ago  apply

      waits: wave 2 has 5 hosts still at work
    ");
}

#[test]
fn ten_thousand_hosts_fit_any_screen_and_no_state_is_invisible() {
    let many: Vec<RolloutHost> =
        (0..300).map(|n| host(&format!("web-{n}"), HostState::Redeemed)).collect();
    let mut it = rollout(
        vec![
            lane(&[("patched", 10)]),
            lane(&[("patched", 700), ("undone", 1), ("redeemed", 300), ("pending", 2_000)]),
            lane(&[("pending", 6_989)]),
        ],
        many,
    );
    it.waiting = three().waiting;
    for (width, height) in [(80, 24), (120, 50), (200, 60), (40, 12), (20, 5), (1, 1)] {
        let lines = frame(&it, now(), width, height);
        assert!(lines.len() <= height, "{} lines on {height}", lines.len());
        assert!(lines.iter().all(|line| measure_text_width(line) <= width), "{lines:#?}");
    }
    let lines = frame(&it, now(), 120, 30);
    let second = lines.iter().find(|line| line.contains("ring-2")).unwrap();
    for mark in ['●', '◀', '▶', '○'] {
        assert!(second.contains(mark), "{second}");
    }
    let text = lines.join("\n");
    assert!(text.contains("at work (300)") && text.contains("more"), "{text}");
    assert!(text.contains("waits: wave 2"), "reasons are never pushed off: {text}");
}

#[test]
fn of_very_many_waves_those_around_the_one_at_work_are_shown() {
    let mut it = rollout((0..100).map(|_| lane(&[("pending", 100)])).collect(), Vec::new());
    it.row.wave = 50;
    let text = frame(&it, now(), 100, 24).join("\n");
    assert!(text.contains("ring-51 ") && text.contains("wave(s) before"), "{text}");
    assert!(text.contains("wave(s) after") && !text.contains("ring-99 "), "{text}");
}

#[test]
fn a_halt_is_said_with_its_reason_and_a_strip_is_as_long_as_its_wave() {
    let mut it = three();
    it.row.phase = Phase::Halted { hold: Hold::TooManyFailures { failed: 2, allowed: 1 } };
    let text = frame(&it, now(), 100, 30).join("\n");
    assert!(text.contains("halted: 2 hosts failed"), "{text}");
    for (states, cells, largest) in [
        (vec![("patched", 7_u64), ("pending", 3)], 20_usize, 10_u64),
        (vec![("patched", 999), ("undone", 1)], 10, 1_000),
        (vec![("patched", 1), ("undone", 1), ("pending", 1)], 60, 100_000),
        (vec![("pending", 50)], 10, 1_000),
        (vec![], 10, 5),
    ] {
        let drawn = strip(&lane(&states), cells, largest);
        let states_drawn = drawn.chars().filter(|c| *c != ' ').count();
        assert!(states_drawn >= states.len(), "{drawn:?}");
        assert!(measure_text_width(&drawn) >= cells, "{drawn:?}");
        assert!(measure_text_width(&drawn) <= cells.max(states.len()), "{drawn:?}");
    }
}
