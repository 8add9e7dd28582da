//! Two servers and one data directory.

use crate::fleet::{Lab, try_agent_call};
use crate::story;
use crate::world::{Life, World, free, program};
use fettle_wire::agent::{CheckInReply, Redeem, RedeemReply};
use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a process of the server says that must not go on: exit code 8 and why.
fn ended(output: &Output, code: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{said}");
    assert!(said.contains(code), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("→ "), "the last line says what to do: {said}");
}

/// The lock no longer keeps two servers apart: as on a file system that has none, or after somebody removed it.
fn remove_lock(lab: &Lab) {
    fs::remove_file(lab.data().join("server.lock")).unwrap();
}

fn signal(pid: u32, what: &str) {
    let sent = Command::new("kill").args([what, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill {what} {pid}");
}

#[test]
fn of_two_servers_started_at_once_on_the_same_data_one_serves_and_one_names_it() {
    let mut lab = Lab::furnished();
    lab.kill();
    for _ in 0..10 {
        let mut both = [(); 2].map(|()| {
            (lab.operator, lab.agents) = (free(), free());
            program(&lab, None).stderr(Stdio::piped()).spawn().unwrap()
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        let loser = loop {
            let gone = |child: &mut std::process::Child| child.try_wait().unwrap().is_some();
            if let Some(at) = both.iter_mut().position(gone) {
                break at;
            }
            assert!(Instant::now() < deadline, "both go on");
            std::thread::sleep(Duration::from_millis(5));
        };
        let [first, second] = both;
        let (loser, mut winner) = if loser == 0 { (first, second) } else { (second, first) };
        let said = loser.wait_with_output().unwrap();
        ended(&said, "another fettle server");
        assert!(winner.try_wait().unwrap().is_none(), "the other one goes on");
        winner.kill().unwrap();
        winner.wait().unwrap();
    }
}

#[test]
fn a_server_whose_lock_was_taken_away_gives_way_to_the_next_and_nothing_is_done_twice() {
    let mut plain = World::new(Vec::new());
    story(&mut plain);
    let wanted = plain.account();

    let mut world = World::new(Vec::new());
    world.offer("3.0.15-1~deb12u1");
    let id = world.start();
    let mut handed_over = 0;
    let mut given_way = Vec::new();
    let step = |world: &mut World, given_way: &mut Vec<_>| {
        remove_lock(&world.lab);
        let old = (world.lab.operator, world.lab.agents);
        (world.lab.operator, world.lab.agents) = (free(), free());
        let next = Life::begin(&world.lab, None);
        let before = world.follow(next).unwrap();
        given_way.push((before, old));
    };
    // While the canary is at work, while the others are, and while everything is taken back.
    for state in ["granted", "redeemed", "patched"] {
        world.until(&id, |r| r.row.hosts_by_state.contains_key(state) || r.row.ended_at.is_some());
        step(&mut world, &mut given_way);
        handed_over += 1;
    }
    world.until(&id, |r| r.row.ended_at.is_some());
    world.undo(&id);
    step(&mut world, &mut given_way);
    world.until(&id, |r| r.row.hosts_by_state.get("undone") == Some(&3));
    for (life, _) in given_way {
        let status = life.end();
        assert_eq!(status.code(), Some(8), "it says that it was superseded");
    }
    assert_eq!(handed_over, 3);
    // The second half of the story with the last of them.
    world.offer("3.0.15-1~deb12u2");
    let id = world.start();
    world.until(&id, |r| r.row.ended_at.is_some());
    world.undo(&id);
    world.until(&id, |r| r.row.hosts_by_state.get("undone") == Some(&3));
    assert_eq!(world.broken(), Vec::<String>::new());
    assert_eq!(world.account(), wanted, "as one server would have done it");
    println!("S6 4 servers superseded in the middle of a rollout and its undo; as with one");
}

/// A server is stopped for so long while another takes its place, several times; what hosts say to the stopped one waits
/// for it, and is refused when it wakes.
fn stopped_for(pause: Duration, times: u32) {
    let mut world = World::new(Vec::new());
    let (mut refused, mut cut_off) = (0, 0);
    for time in 0..times {
        world.offer(&format!("3.0.15-1~deb12u{}", time + 1));
        let id = world.start();
        // At another point each time.
        let events = 2 + 4 * time as usize;
        world.until(&id, |r| r.events.len() >= events);
        let stopped = world.life().child.id();
        signal(stopped, "-STOP");
        let late = late_words(&world, pause.saturating_sub(Duration::from_secs(10)));
        let old = (world.lab.operator, world.lab.agents);
        remove_lock(&world.lab);
        (world.lab.operator, world.lab.agents) = (free(), free());
        let mut next = Life::begin(&world.lab, None);
        // Stopped in the middle of a write it holds the database: nobody can take that, and the next one says so.
        std::thread::sleep(Duration::from_millis(300));
        while let Some(status) = next.child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(8), "it waits for the database and says so");
            signal(stopped, "-CONT");
            std::thread::sleep(Duration::from_millis(7));
            signal(stopped, "-STOP");
            next = Life::begin(&world.lab, None);
            std::thread::sleep(Duration::from_millis(300));
        }
        let before = world.follow(next).unwrap();
        let begun = Instant::now();
        world.until(&id, |r| r.row.ended_at.is_some());
        world.undo(&id);
        world.until(&id, |r| r.row.hosts_by_state.get("undone") == Some(&3));
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
        signal(stopped, "-CONT");
        for word in late {
            if word.join().unwrap() { refused += 1 } else { cut_off += 1 }
        }
        assert_eq!(before.end().code(), Some(8), "woken, it sees that it was superseded: {old:?}");
    }
    assert_eq!(world.broken(), Vec::<String>::new());
    println!(
        "S7 {times} servers stopped for {pause:?}; of what was said to them {refused} refused, {cut_off} cut off, 0 taken"
    );
}

/// Each host says the same to the stopped server as it will to the next: its report, and whether it may go on. Gives
/// whether that was refused in words, for it must not be taken; a server that ends may also just cut the line.
fn late_words(world: &World, wait: Duration) -> Vec<JoinHandle<bool>> {
    let mut words = Vec::new();
    for agent in &world.agents {
        let lab = Lab {
            dir: tempfile::tempdir().unwrap(),
            running: None,
            operator: world.lab.operator,
            agents: world.lab.agents,
            token: world.lab.token.clone(),
            ca: world.lab.ca.clone(),
        };
        let identity = agent.identity.clone();
        let mut said = agent.says(true);
        // News, so that it has to be written down.
        said.generation += 1;
        let asked = agent.at_work().map(|assignment| Redeem {
            assignment: assignment.id.clone(),
            generation: assignment.generation,
            needs_seconds: None,
        });
        words.push(std::thread::spawn(move || {
            std::thread::sleep(wait);
            let taken = try_agent_call::<CheckInReply>(&lab, Some(&identity), "checkin", &said);
            let went = asked.map(|asked| {
                try_agent_call::<RedeemReply>(&lab, Some(&identity), "redeem", &asked)
            });
            assert!(!matches!(taken, Ok(Ok(_))), "a report was taken by a server of the past");
            let went = matches!(went, Some(Ok(Ok(RedeemReply::Go))));
            assert!(!went, "a grant was redeemed by a server of the past");
            if let Ok(Err((status, problem))) = &taken {
                assert_eq!((*status, problem.code.as_str()), (503, "superseded"));
            }
            matches!(taken, Ok(Err(_)))
        }));
    }
    words
}

#[test]
fn a_server_that_was_stopped_while_another_took_its_place_writes_nothing_when_it_wakes() {
    stopped_for(Duration::from_secs(3), 3);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn nor_does_it_after_a_minute() {
    stopped_for(Duration::from_secs(60), 3);
}
