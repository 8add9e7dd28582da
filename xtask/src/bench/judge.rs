//! A fleet judged anew because what it is judged by is another: how long that takes, and how long others wait meanwhile.

use super::web::{Server, in_a_directory};
use super::{Figure, middle};
use crate::build::{run, target};
use crate::lab::say;
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The server answers whoever changes a policy when hosts are judged by it, or after so long.
const ANSWERS_AFTER: Duration = Duration::from_secs(20);
/// As many are judged within that.
const MOST: usize = 1_000;
/// The packages that hosts have: those of this machine.
const STATUS: &str = "/var/lib/dpkg/status";

fn policy(description: &str) -> String {
    format!(
        "[policy]\nname = \"production\"\nselect = \"env=prod\"\ndescription = \"{description}\"\n\
         [[class]]\nname = \"all\"\ndeadline = \"7d\"\n[[ring]]\nname = \"broad\"\n"
    )
}

/// CISA's catalogue with these vulnerabilities.
fn kev(ids: &[&str]) -> String {
    let entry = |id: &&str| {
        format!(r#"{{"cveID":"{id}","dateAdded":"2026-11-01","dueDate":"2026-11-22"}}"#)
    };
    let entries: Vec<String> = ids.iter().map(entry).collect();
    format!(r#"{{"count":{},"vulnerabilities":[{}]}}"#, ids.len(), entries.join(","))
}

/// Takes CISA's catalogue with these in, and waits until hosts are judged by it.
fn fed(server: &Server, bearer: &str, ids: &[&str]) -> Result<Duration> {
    let began = Instant::now();
    server.ask("POST", "/api/v1/feeds/kev?force=true", bearer, &kev(ids))?.ok()?;
    Ok(began.elapsed())
}

pub(super) fn measure(hosts: usize) -> Result<Vec<Figure>> {
    in_a_directory("judge", |dir| within(dir, hosts.min(MOST)))
}

fn within(dir: &Path, hosts: usize) -> Result<Vec<Figure>> {
    let programs = target().join("demo");
    drop(Server::start(&programs, dir)?);
    let token = std::fs::read_to_string(dir.join("operator.token"))?.trim().to_owned();
    let bearer = format!("authorization: Bearer {token}\r\n");
    say(&format!("filling a store with {hosts} hosts that have the packages of this machine"));
    let mut filled = Command::new(programs.join("examples/big_fleet"));
    run(filled.arg(dir).arg(hosts.to_string()).arg(STATUS))?;

    say("judging them for the first time");
    let server = Server::start(&programs, dir)?;
    server.ask("POST", "/api/v1/policies", &bearer, &policy("Everything"))?.ok()?;
    drop(server);
    // Ready is who has judged them all.
    let server = Server::start(&programs, dir)?;

    say("judging them again, by a policy that says the same in other words");
    let judged = AtomicBool::new(false);
    let (again, mut waited) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut waited = Vec::new();
            while !judged.load(Ordering::Relaxed) {
                let body = format!("{{\"query\":\"q={}\",\"shared\":false}}", waited.len());
                let headers = format!("{bearer}content-type: application/json\r\n");
                let began = Instant::now();
                server.ask("PUT", "/api/v1/views/meanwhile", &headers, &body)?.ok()?;
                waited.push(began.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok::<_, anyhow::Error>(waited)
        });
        let began = Instant::now();
        let answer = server.ask("POST", "/api/v1/policies", &bearer, &policy("All of it"));
        let took = began.elapsed();
        judged.store(true, Ordering::Relaxed);
        answer?.ok()?;
        let waited = other.join().ok().context("who wrote meanwhile is gone")??;
        Ok::<_, anyhow::Error>((took, waited))
    })?;
    if again >= ANSWERS_AFTER {
        bail!("{hosts} hosts are not judged within {ANSWERS_AFTER:?}: fewer --hosts");
    }
    say("judging what a feed changed");
    let cves = server.ask("GET", "/api/v1/cves?sort=-hosts&limit=1", &bearer, "")?.ok()?;
    let cves: serde_json::Value = serde_json::from_slice(&cves.body)?;
    let most = cves["items"][0]["id"].as_str().context("no vulnerability")?;
    // What nobody has, and what most have.
    fed(&server, &bearer, &["CVE-1999-0001"])?;
    let nobody = fed(&server, &bearer, &["CVE-1999-0001", "CVE-1999-0002"])?;
    let everybody = fed(&server, &bearer, &["CVE-1999-0001", "CVE-1999-0002", most])?;
    if everybody >= ANSWERS_AFTER {
        bail!("{hosts} hosts are not judged within {ANSWERS_AFTER:?}: fewer --hosts");
    }

    waited.sort_by(f64::total_cmp);
    let slow = waited.get(waited.len() * 95 / 100).copied().unwrap_or(f64::NAN);
    Ok(vec![
        Figure::plain("hosts", hosts as f64, "hosts"),
        Figure::plain("all judged again, nothing different", again.as_secs_f64(), "s"),
        Figure::plain("of that, a host", again.as_secs_f64() * 1e3 / hosts as f64, "ms"),
        Figure::plain("a feed that changes nothing of theirs, taken in", nobody.as_secs_f64(), "s"),
        Figure::plain(
            "one that changes a vulnerability they have, taken in and judged",
            everybody.as_secs_f64(),
            "s",
        ),
        Figure::plain("a write meanwhile, p50", middle(waited), "ms"),
        Figure::plain("a write meanwhile, p95", slow, "ms"),
        Figure::plain("server's resident set", server.resident()?, "MiB"),
    ])
}
