//! Gates that ask others: a real Prometheus, a program of the operator's, people; and hosts whose findings stay.

use crate::fleet::{
    Agent, CVE, Lab, NEW, OLD, POLICY, TRACKER, finished, inventory, quick, rollout, start, until,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use fettle_core::assignment::Probe;
use fettle_core::operator::Role;
use fettle_core::policy::{HostList, HostTest};
use fettle_core::rollout::{Came, HostAsk, Judged, Phase, RolloutEvent, Says};
use fettle_core::{Hold, Timestamp};
use fettle_server::{Server, ServerOptions};
use fettle_wire::agent::{CheckInReply, MOST_ASKS, MeasuredReport, RanReport};
use fettle_wire::api::{ApiProblem, ApproveWave, Because, RolloutDetail};
use ring::hmac;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// What came: head and body of each request.
pub(crate) type Heard = Arc<Mutex<Vec<(String, String)>>>;

/// A fleet of a canary and another host, whose gate asks this as well.
fn fleet(gate: &str, checks: &str) -> (Lab, Vec<Agent>) {
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions { ask_gates_seconds: 1, ..quick(dir.path()) };
    let running = Server::start(options).unwrap();
    let token =
        std::fs::read_to_string(dir.path().join("operator.token")).unwrap().trim().to_owned();
    let ca = std::fs::read_to_string(dir.path().join("keys/ca.pem")).unwrap();
    let (operator, agents) = (running.operator_addr, running.agents_addr);
    let lab = Lab { dir, running: Some(running), operator, agents, token, ca };
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    let policy = POLICY.replacen("[gate]\n", &format!("[gate]\n{gate}\n"), 1) + checks;
    lab.post_bytes("/policies", policy.as_bytes());
    let agents = vec![lab.host("canary-1", "canary"), lab.host("web-1", "broad")];
    start(&lab);
    (lab, agents)
}

/// The canary is patched and well, and its gate waits or has decided.
fn canary_patched(lab: &Lab, agents: &mut [Agent]) {
    until("the canary's order", || {
        agents[0].checkin(lab);
        agents[0].at_work()
    });
    agents[0].work(lab, true);
}

fn at_gate(
    lab: &Lab,
    agents: &mut [Agent],
    what: &str,
    is: impl Fn(&RolloutDetail) -> bool,
) -> RolloutDetail {
    until(what, || {
        agents.iter_mut().for_each(|agent| drop(agent.checkin(lab)));
        Some(rollout(lab)).filter(&is)
    })
}

fn hold(it: &RolloutDetail) -> Option<&Hold> {
    it.waiting.iter().find(|w| w.host.is_none()).map(|w| &w.hold)
}

fn waits_for(it: &RolloutDetail, check: &str, why: &str) -> bool {
    matches!(hold(it), Some(Hold::CheckWaits { check: c, why: w, .. }) if c == check && w.contains(why))
}

fn judged(it: &RolloutDetail) -> Vec<Judged> {
    let passed = it.events.iter().find_map(|e| match &e.event {
        RolloutEvent::GatePassed { judged, .. } | RolloutEvent::Halted { judged, .. } => {
            Some(judged.clone())
        }
        _ => None,
    });
    passed.unwrap_or_default()
}

/// Somebody who answers HTTP, one request a connection; gives what it was sent.
fn answering(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some((head, body)) = request(&stream) else { continue };
            let body_text = answer(&body);
            let reply = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body_text}",
                body_text.len()
            );
            let _ = stream.write_all(reply.as_bytes());
            all.lock().unwrap().push((head, body));
        }
    });
    (address, heard)
}

/// A receiver of messages that answers with the status that it is given, and tells what it was sent.
pub(crate) fn webhook(status: Arc<AtomicU16>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some(said) = request(&stream) else { continue };
            all.lock().unwrap().push(said);
            let status = status.load(Ordering::SeqCst);
            let reply =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    (address, heard)
}

/// The message is signed with the server's secret, as any library of Standard Webhooks verifies it.
pub(crate) fn signed(lab: &Lab, head: &str, body: &str) {
    let secret = std::fs::read_to_string(lab.data().join("keys/webhook.secret")).unwrap();
    let secret = BASE64.decode(secret.trim().strip_prefix("whsec_").unwrap()).unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with(name));
        line.unwrap().split_once(':').unwrap().1.trim().to_owned()
    };
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let tag = BASE64.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    assert!(hmac::verify(&key, signed.as_bytes(), &tag).is_ok(), "{head}");
}

fn request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

#[test]
fn a_webhook_is_asked_signed_and_its_word_counts() {
    let word =
        Arc::new(Mutex::new("{\"verdict\":\"wait\",\"reason\":\"3 of 14 tests\"}".to_owned()));
    let says = word.clone();
    let (address, heard) = answering(move |_| says.lock().unwrap().clone());
    let check = format!(
        "[[check]]\nname = \"suite\"\nkind = \"webhook\"\nurl = \"http://{address}/gate\"\n"
    );
    let (lab, mut agents) = fleet("", &check);
    canary_patched(&lab, &mut agents);
    let it = at_gate(&lab, &mut agents, "the suite", |it| waits_for(it, "suite", "3 of 14 tests"));
    assert_eq!((it.gate.len(), it.gate[0].says), (1, Says::Waits));
    // What is no verdict is no data, and never passes.
    *word.lock().unwrap() = "{\"verdict\":\"sure\"}".to_owned();
    at_gate(&lab, &mut agents, "nonsense", |it| waits_for(it, "suite", "is no verdict"));
    *word.lock().unwrap() = "{\"verdict\":\"pass\",\"reason\":\"14 of 14 tests\"}".to_owned();
    let done = finished(&lab, &mut agents);
    assert_eq!(done.row.hosts_by_state.get("patched"), Some(&2));
    let suite = judged(&done).into_iter().find(|j| j.check == "suite").unwrap();
    assert_eq!((suite.says, suite.why.as_str()), (Says::Passes, "14 of 14 tests"));
    assert!(suite.evidence.is_some(), "an auditor sees later by what it passed");

    let heard = heard.lock().unwrap();
    for (head, body) in heard.iter() {
        assert!(head.starts_with("POST /gate HTTP/1.1\r\n"), "{head}");
        signed(&lab, head, body);
        let told: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(told["type"], "gate.asked");
        assert_eq!(told["data"]["hosts"][0]["name"], "canary-1");
        assert_eq!((&told["data"]["wave"], &told["data"]["ring"]), (&0.into(), &"canary".into()));
    }
}

#[test]
fn a_webhook_that_says_no_halts_and_the_wave_is_undone_as_the_policy_says() {
    let (address, _) =
        answering(|_| "{\"verdict\":\"fail\",\"reason\":\"checkout is broken\"}".to_owned());
    let check =
        format!("[[check]]\nname = \"suite\"\nkind = \"webhook\"\nurl = \"http://{address}/\"\n");
    let (lab, mut agents) = fleet("undo = \"wave\"", &check);
    canary_patched(&lab, &mut agents);
    let it = at_gate(&lab, &mut agents, "the halt", |it| {
        matches!(it.row.phase, Phase::Halted { .. }) && it.hosts[0].run.undo_asked.is_some()
    });
    let Phase::Halted { hold: Hold::GateFailed { reason, .. } } = &it.row.phase else { panic!() };
    assert_eq!(reason, "check `suite`: checkout is broken");
    assert!(judged(&it).iter().any(|j| j.check == "suite" && j.says == Says::Fails));
    assert_eq!(it.hosts[1].run.state.word(), "pending");
}

/// A Prometheus that watches itself, each second.
struct Prometheus(Child, #[allow(dead_code)] tempfile::TempDir, SocketAddr);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `None`: it is not installed here; `cargo xtask test` installs it.
fn prometheus() -> Option<Prometheus> {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some(Prometheus(child, dir, address)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "prometheus cannot be run: {error}");
            eprintln!("prometheus is not installed: not tried");
            None
        }
    }
}

#[test]
fn a_real_prometheus_is_asked_and_each_thing_it_may_say_is_understood() {
    let Some(server) = prometheus() else { return };
    let check = |query: &str, rest: &str| {
        format!(
            "[[check]]\nname = \"number\"\nkind = \"prometheus\"\nurl = \"http://{}\"\nquery = '{query}'\n{rest}\n",
            server.2
        )
    };
    for (query, rest, why) in [
        ("nothing_of_that_name", "above = 1", "the query gives nothing"),
        ("up / 0 * 0", "above = 1", "the number is NaN"),
        ("sum(", "above = 1", "Prometheus says: "),
        ("\"text\"", "above = 1", "a string, and a number is needed"),
        (
            "{__name__=~\"go_gc_duration_seconds|up\"}",
            "above = 1",
            "series, and one number is needed",
        ),
        ("up{job=\"self\"}", "equals = 1\nfor = \"1h\"", "3600 s are needed"),
    ] {
        let (lab, mut agents) = fleet("", &check(query, rest));
        canary_patched(&lab, &mut agents);
        at_gate(&lab, &mut agents, why, |it| waits_for(it, "number", why));
    }
    let (lab, mut agents) = fleet("", &check("up{job=\"self\"}", "equals = 1\nfor = \"3s\""));
    canary_patched(&lab, &mut agents);
    let done = finished(&lab, &mut agents);
    let number = judged(&done).into_iter().find(|j| j.check == "number").unwrap();
    assert!(number.why.starts_with("it is 1, equal to 1 for "), "{}", number.why);

    let (lab, mut agents) = fleet("", &check("up{job=\"self\"}", "below = 1"));
    canary_patched(&lab, &mut agents);
    let it =
        at_gate(&lab, &mut agents, "the halt", |it| matches!(it.row.phase, Phase::Halted { .. }));
    let Phase::Halted { hold } = &it.row.phase else { panic!() };
    assert!(hold.to_string().contains("it is 1, and has to be below 1"), "{hold}");
}

#[test]
fn findings_that_stay_after_the_patch_fail_the_gate_and_their_host_is_taken_back() {
    let (lab, mut agents) = fleet("require-proof = true\nundo = \"failed\"", "");
    until("the canary's order", || {
        agents[0].checkin(&lab);
        agents[0].at_work()
    });
    // It says that it is patched, and runs what it ran.
    agents[0].work(&lab, true);
    let mut lying = inventory(OLD);
    lying.kernel.running = "6.1.0-another".into();
    agents[0].inventory = lying;
    let it =
        at_gate(&lab, &mut agents, "the halt", |it| matches!(it.row.phase, Phase::Halted { .. }));
    let Phase::Halted { hold } = &it.row.phase else { panic!() };
    assert!(
        hold.to_string().contains(&format!("not proved gone: {CVE} (open) on canary-1")),
        "{hold}"
    );
    let it = at_gate(&lab, &mut agents, "the undo", |it| it.hosts[0].run.undo_asked.is_some());
    assert_eq!(it.hosts[1].run.undo_asked, None);

    let (lab, mut agents) = fleet("require-proof = true", "");
    canary_patched(&lab, &mut agents);
    assert_eq!(agents[0].inventory, inventory(NEW));
    let done = finished(&lab, &mut agents);
    let proof = judged(&done).into_iter().find(|j| j.check == "proof").unwrap();
    assert_eq!(proof.why, "the findings of 1 host(s) are proved gone");
}

#[test]
fn a_ring_begins_by_the_word_of_an_approver_who_did_not_start_the_rollout() {
    let (lab, mut agents) = fleet("approval = \"before:broad\"", "");
    let bob = lab.add("bob", &[Role::Approver]);
    let olga = lab.add("olga", &[Role::Operator]);
    let say = |token: &str, name: &str, wave: u32| {
        let asked = ApproveWave { wave, comment: "canaries are quiet".into() };
        let body = serde_json::to_vec(&asked).unwrap();
        let answer = lab.call_as(token, name, "POST", "/rollouts/ro-1/approve", &body);
        let code =
            if answer.status < 300 { String::new() } else { answer.json::<ApiProblem>().code };
        (answer.status, code)
    };
    assert_eq!(say(&bob, "bob", 1), (409, "rollout-state".to_owned()), "nobody has seen anything");
    canary_patched(&lab, &mut agents);
    let it = at_gate(&lab, &mut agents, "the word", |it| {
        matches!(hold(it), Some(Hold::WaveNotApproved { .. }))
    });
    let text = hold(&it).unwrap().to_string();
    assert!(
        text.contains("not alice") && text.ends_with("rollout approve ro-1 --wave 2"),
        "{text}"
    );
    // The rollout was started with this very token, under another name.
    assert_eq!(say(&lab.token, "carol", 1), (403, "own-rollout".to_owned()));
    assert_eq!(say(&olga, "olga", 1), (403, "role-needed".to_owned()));
    assert_eq!(say(&bob, "bob", 2), (409, "rollout-state".to_owned()));
    assert_eq!(say(&bob, "bob", 1), (200, String::new()));
    let done = finished(&lab, &mut agents);
    let word = done.events.iter().find(|e| e.event.word() == "wave-approved").unwrap();
    assert!(matches!(&word.event, RolloutEvent::WaveApproved { wave: 1, by, .. } if by == "bob"));
    let of_wave = Because { reason: "slow".into(), hosts: vec![], wave: Some(1) };
    let it: RolloutDetail = lab.post("/rollouts/ro-1/undo", &of_wave);
    let asked: Vec<bool> = it.hosts.iter().map(|h| h.run.undo_asked.is_some()).collect();
    assert_eq!(asked, [false, true], "of that wave and of no other");
}

fn said(ask: &str, came: Came) -> RanReport {
    RanReport { ask: ask.to_owned(), began_ms_ago: 20, ended_ms_ago: 5, came }
}

const SHOP: &str = "[[check]]\nname = \"shop-answers\"\nkind = \"host\"\ntest = \"shop\"\n";

/// What the canary is asked to run, once its bake is over.
fn asked(lab: &Lab, agents: &mut [Agent]) -> HostAsk {
    canary_patched(lab, agents);
    until("the question", || agents[0].checkin(lab).asks.pop())
}

#[test]
fn a_host_is_asked_for_a_test_by_name_and_its_own_answer_opens_the_gate() {
    let (lab, mut agents) = fleet("", SHOP);
    let ask = asked(&lab, &mut agents);
    assert_eq!(ask.test, HostTest { list: HostList::Tests, name: "shop".into() });
    let why = "canary-1 has not answered since the bake ended";
    at_gate(&lab, &mut agents, "no answer", |it| waits_for(it, "shop-answers", why));
    assert!(agents[1].checkin(&lab).asks.is_empty(), "it is not of the wave");
    // Another host's word about it, an answer to something that was not asked, and one from before the bake.
    agents[1].ran = vec![said(&ask.ask, Came::Well)];
    let early = RanReport { began_ms_ago: 3_600_000, ..said(&ask.ask, Came::Well) };
    for wrong in [said("ro-1/0/0/shop-answers", Came::Well), early] {
        agents[0].ran = vec![wrong];
        for _ in 0..3 {
            agents.iter_mut().for_each(|agent| drop(agent.checkin(&lab)));
            let it = rollout(&lab);
            assert!(waits_for(&it, "shop-answers", why), "{:?}", it.gate);
        }
    }
    let lacks = Came::Lacks { why: "it has no program `shop` in /etc/fettle/tests.d".into() };
    agents[0].ran = vec![said(&ask.ask, lacks)];
    let it = at_gate(&lab, &mut agents, "what it lacks", |it| {
        waits_for(it, "shop-answers", "canary-1: it has no program `shop`")
    });
    assert_eq!((it.gate[0].kind.as_str(), it.gate[0].says), ("host", Says::Waits));
    agents[0].ran = vec![said(&ask.ask, Came::Well)];
    let done = finished(&lab, &mut agents);
    let shop = judged(&done).into_iter().find(|j| j.check == "shop-answers").unwrap();
    assert_eq!(shop.why, "1 of 1 host(s) ran tests.d/shop well, 100 percent are needed");
    assert!(shop.evidence.is_some(), "an auditor sees later by what it passed");
    assert!(agents[0].checkin(&lab).asks.is_empty(), "once the gate is through nothing is asked");
}

#[test]
fn a_host_whose_test_comes_out_badly_halts_the_rollout_and_is_taken_back() {
    let (lab, mut agents) = fleet("undo = \"failed\"", SHOP);
    let ask = asked(&lab, &mut agents);
    agents[0].ran = vec![said(&ask.ask, Came::Badly { said: "exit code 1: 2 orders lost".into() })];
    let it = at_gate(&lab, &mut agents, "the halt", |it| {
        matches!(it.row.phase, Phase::Halted { .. }) && it.hosts[0].run.undo_asked.is_some()
    });
    let Phase::Halted { hold: Hold::GateFailed { reason, .. } } = &it.row.phase else { panic!() };
    assert_eq!(
        reason,
        "check `shop-answers`: tests.d/shop came out badly on canary-1: exit code 1: 2 orders lost"
    );
    assert_eq!(it.hosts[1].run.state.word(), "pending");
}

#[test]
fn a_server_that_restarts_hears_the_hosts_answers_again() {
    let (mut lab, mut agents) = fleet("approval = \"before:broad\"", SHOP);
    let ask = asked(&lab, &mut agents);
    agents[0].ran = vec![said(&ask.ask, Came::Well)];
    let passes = |it: &RolloutDetail| {
        it.gate.iter().any(|j| j.check == "shop-answers" && j.says == Says::Passes)
    };
    at_gate(&lab, &mut agents, "the answer", passes);
    lab.restart();
    assert!(!passes(&rollout(&lab)), "it has heard nothing yet, and no data never passes");
    assert_eq!(agents[0].checkin(&lab).asks, [ask], "the same gate asks the same");
    at_gate(&lab, &mut agents, "the answer again", passes);
}

#[test]
fn more_outcomes_than_are_ever_asked_for_are_refused() {
    let (lab, agents) = fleet("", SHOP);
    let mut says = agents[0].says(false);
    says.ran = (0..=MOST_ASKS).map(|n| said(&n.to_string(), Came::Well)).collect();
    let (status, problem) = agents[0].call::<CheckInReply>(&lab, "checkin", &says).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (422, "odd-inventory"));
}

const SPEED: &str = "[[check]]\nname = \"speed\"\nkind = \"performance\"\nhttp = \"http://127.0.0.1:80/health\"\nmin-samples = 20\n";

/// Twenty-five answers, numbered from `first` on, the last of them so many seconds ago, about so long.
fn series(first: u64, ends_ago: i64, took: u32) -> Vec<(u64, i64, Option<u32>)> {
    let now = Timestamp::now().as_millisecond();
    let at = |n: i64| now - ends_ago * 1000 - n * 20;
    let took = |n: i64| Some(took + u32::try_from(n).unwrap() * 10);
    (first..).zip((0..25).rev()).map(|(number, n)| (number, at(n), took(n))).collect()
}

#[test]
fn hosts_measure_before_anything_is_changed_and_a_canary_that_becomes_slow_is_taken_back() {
    for (canary_takes, halts) in [(10_000, false), (40_000, true)] {
        let (lab, mut agents) = fleet("undo = \"failed\"", SPEED);
        // Before its rollout has changed anything, each host of the policy measures, and tells nothing.
        for agent in &mut agents {
            let [watch] = &agent.checkin(&lab).watches[..] else { panic!() };
            assert!(matches!(&watch.probe, Probe::Http { url, .. } if url.ends_with("/health")));
            assert!(!watch.send);
        }
        canary_patched(&lab, &mut agents);
        let told = |agent: &mut Agent| {
            until("somebody looks at it", || agent.checkin(&lab).watches.pop().filter(|w| w.send))
        };
        let watches: Vec<_> = agents.iter_mut().map(told).collect();
        assert_eq!(watches[0].id, watches[1].id);
        assert!(watches[0].mark.is_some());
        at_gate(&lab, &mut agents, "samples", |it| waits_for(it, "speed", "not enough samples"));
        // An hour before, and now; what the server has it does not want again.
        let told = |now| {
            let samples = [series(0, 3600, 10_000), series(25, 0, now)].concat();
            vec![MeasuredReport { id: watches[0].id.clone(), samples }]
        };
        agents[1].measured = told(10_000);
        let last = agents[1].measured[0].samples.last().map(|(number, ..)| *number);
        assert_eq!(agents[1].checkin(&lab).watches[0].after, last);
        // With the canary's word the gate has all it needs, and nobody looks at the hosts any more.
        agents[0].measured = told(canary_takes);
        agents[0].checkin(&lab);
        if halts {
            let it = at_gate(&lab, &mut agents, "the undo", |it| {
                it.hosts.iter().any(|h| h.run.undo_asked.is_some())
            });
            let Phase::Halted { hold } = &it.row.phase else { panic!() };
            assert!(hold.to_string().contains("check `speed`: canary-1 takes 40."), "{hold}");
            assert_eq!(it.hosts[1].run.state.word(), "pending");
        } else {
            let done = finished(&lab, &mut agents);
            let speed = judged(&done).into_iter().find(|j| j.check == "speed").unwrap();
            assert_eq!((speed.says, speed.kind.as_str()), (Says::Passes, "performance"));
        }
    }
}
