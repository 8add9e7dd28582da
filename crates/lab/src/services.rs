//! Real software on real hosts: each piece runs with data in it while a client talks to it, is patched by its pending
//! update, and is taken back. Judged from outside: by the client, by the data, and by a hash of every file.

mod table;

use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};
use table::{STAGES, Service, Stage};

use crate::tree::{self, Tree};
use crate::{HostSpec, Lab, LabError, LabHost, Say};

/// Not compared: logs, the agent's own journal, and what the package manager and its timers write anew.
const EXCLUDED: &[&str] = &[
    "/var/log",
    "/var/lib/fettle-agent",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/lib/apt",
    "/var/tmp",
    "/root",
];
/// A transaction may take so long.
const PATIENCE: Duration = Duration::from_secs(600);
/// A service may take so long to answer after a change is over.
const SETTLE: Duration = Duration::from_secs(30);

/// What became of one piece of software.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Patched {
    /// Its name.
    pub name: String,
    /// Version before and after.
    pub versions: String,
    /// Packages that changed with it.
    pub packages: usize,
    /// Seconds from the order to patched and verified, its rehearsal included.
    pub patch_seconds: f64,
    /// Longest time without an answer while it was patched, in ms.
    pub patch_gap: f64,
    /// Seconds of the undo, verified.
    pub undo_seconds: f64,
    /// Longest time without an answer while it was taken back, in ms.
    pub undo_gap: f64,
    /// Why its rehearsal refused the update, where that is as it should be.
    pub refused: Option<String>,
    /// Files that differed after the undo. Must be 0.
    pub differing: usize,
    /// What is not as it should be; empty: nothing.
    pub wrong: Vec<String>,
}

impl std::fmt::Display for Patched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<12} {:<58} {:>3} packages, patched in {:>5.1} s (gap {:>6.0} ms), undone in {:>4.1} s (gap {:>6.0} ms), {} files differ{}{}",
            self.name,
            self.versions,
            self.packages,
            self.patch_seconds,
            self.patch_gap,
            self.undo_seconds,
            self.undo_gap,
            self.differing,
            self.refused
                .as_ref()
                .map_or(String::new(), |why| format!("  refused on the clone: {why}")),
            if self.wrong.is_empty() {
                String::new()
            } else {
                format!("  WRONG: {}", self.wrong.join("; "))
            }
        )
    }
}

/// Names of all of them.
pub fn names() -> Vec<&'static str> {
    STAGES.iter().flat_map(|stage| stage.services.iter().map(|s| s.name)).collect()
}

/// Patches and takes back those that `wanted` says. `programs` holds `fettle-agent`.
///
/// # Errors
/// When the lab itself fails. What goes wrong with one of them is no error but in [`Patched::wrong`].
pub fn run(
    lab: &Lab,
    programs: &Path,
    wanted: impl Fn(&str) -> bool,
    say: Say<'_>,
) -> Result<Vec<Patched>, LabError> {
    let mut all = Vec::new();
    for stage in &STAGES {
        let services: Vec<&Service> = stage.services.iter().filter(|s| wanted(s.name)).collect();
        if services.is_empty() {
            continue;
        }
        let host = raise(lab, programs, stage)?;
        for service in services {
            let mut report = Patched { name: service.name.to_owned(), ..Patched::default() };
            if let Err(error) = one(&host, stage, service, &mut report) {
                report.wrong.push(error.to_string());
            }
            say(&report.to_string());
            all.push(report);
        }
        host.destroy()?;
    }
    Ok(all)
}

/// A host with the software of a stage, at the versions before their pending updates.
fn raise(lab: &Lab, programs: &Path, stage: &Stage) -> Result<LabHost, LabError> {
    let host = lab.up(&[stage.name], &HostSpec::default(), &|_| {})?.remove(0);
    let install = format!(
        "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -t $(. /etc/os-release; echo $VERSION_CODENAME) {}",
        stage.packages.join(" ")
    );
    shell(&host, &install)?.ok()?;
    for source in stage.services.iter().map(|s| s.older).filter(|older| !older.is_empty()) {
        shell(&host, &older(source))?.ok()?;
    }
    shell(&host, stage.prepare)?.ok()?;
    host.copy_in(programs.join("fettle-agent"), "/usr/bin/fettle-agent")?;
    shell(
        &host,
        "chmod 755 /usr/bin/fettle-agent; systemctl stop apt-daily.timer apt-daily-upgrade.timer logrotate.timer 2>/dev/null; true",
    )?;
    Ok(host)
}

/// Puts every installed binary of a source package at the version of the security suite, which an update of the
/// release has overtaken.
fn older(source: &str) -> String {
    format!(
        "wanted=; for p in $(dpkg-query -W -f '${{Package}} ${{source:Package}}\\n' | awk '$2 == \"{source}\" {{print $1}}'); do \
           v=$(apt-cache madison $p | awk -F'|' '/-security/ {{gsub(/ /, \"\", $2); print $2; exit}}'); wanted=\"$wanted $p=$v\"; \
         done; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --allow-downgrades --no-install-recommends $wanted"
    )
}

fn shell(host: &LabHost, script: &str) -> Result<crate::Output, LabError> {
    host.command("bash").args(["-c", script]).timeout(PATIENCE).run()
}

fn one(
    host: &LabHost,
    stage: &Stage,
    service: &Service,
    report: &mut Patched,
) -> Result<(), LabError> {
    let data = shell(host, service.data)?.ok()?;
    answers(host, service)?;
    let (before, was) = (tree_of(host, stage)?, versions(host)?);

    let begun = Instant::now();
    let patched = talking(host, service, || {
        let mut patch = host.command("fettle-agent").arg("patch").timeout(PATIENCE);
        patch = patch.args(service.patch.split_whitespace());
        patch.run()
    })?;
    report.patch_seconds = begun.elapsed().as_secs_f64();
    report.patch_gap = patched.1;
    let now = versions(host)?;
    let changed: Vec<&String> = now.iter().filter(|line| !was.contains(*line)).collect();
    report.packages = changed.len();
    let first = service.patch.split_whitespace().next().unwrap_or_default();
    let version = |all: &std::collections::BTreeSet<String>| {
        let line = all.iter().find(|l| l.starts_with(&format!("{first} ")));
        line.and_then(|l| l.split_once(' ')).map_or("?".to_owned(), |(_, v)| v.trim().to_owned())
    };
    report.versions = format!("{} → {}", version(&was), version(&now));
    let said = format!("{}{}", patched.0.stdout, patched.0.stderr);
    let refusal = Some(service.refused).filter(|words| !words.is_empty());
    if let Some(words) = refusal.filter(|words| said.contains(*words)) {
        // Nothing may have been touched: every file is compared below.
        report.refused = Some(words.to_owned());
        answers(host, service)?;
    } else if !patched.0.success() {
        report.wrong.push(format!("patch: {}", crate::tool::last_lines(said.as_bytes(), 8)));
    } else {
        if changed.is_empty() {
            report.wrong.push("nothing changed".to_owned());
        }
        answers(host, service)?;
        if shell(host, service.data)?.ok()? != data {
            report.wrong.push("its data changed by the patch".to_owned());
        }
        let begun = Instant::now();
        let undone = talking(host, service, || {
            host.command("fettle-agent").arg("undo").timeout(PATIENCE).run()
        })?;
        report.undo_seconds = begun.elapsed().as_secs_f64();
        report.undo_gap = undone.1;
        if !undone.0.success() {
            let said = format!("{}{}", undone.0.stdout, undone.0.stderr);
            report.wrong.push(format!("undo: {}", crate::tool::last_lines(said.as_bytes(), 8)));
        }
        answers(host, service)?;
        if shell(host, service.data)?.ok()? != data {
            report.wrong.push("its data changed by the undo".to_owned());
        }
    }
    let differing = tree::diff(&before, &tree_of(host, stage)?);
    report.differing = differing.len();
    report.wrong.extend(differing.iter().take(5).map(ToString::to_string));
    Ok(())
}

fn tree_of(host: &LabHost, stage: &Stage) -> Result<Tree, LabError> {
    let excluded: Vec<&str> = EXCLUDED.iter().chain(stage.live).copied().collect();
    tree::snapshot(&host.root(), &excluded)
}

/// `package version`, of every package.
fn versions(host: &LabHost) -> Result<std::collections::BTreeSet<String>, LabError> {
    let all = host.exec(&["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"])?.ok()?;
    Ok(all.lines().map(str::to_owned).collect())
}

/// It answers now, or soon.
fn answers(host: &LabHost, service: &Service) -> Result<(), LabError> {
    let script = format!(
        "end=$((SECONDS + {})); while [ $SECONDS -lt $end ]; do if {}; then exit 0; fi; sleep 0.2; done; echo 'no answer' >&2; exit 1",
        SETTLE.as_secs(),
        service.ask
    );
    shell(host, &script)?.ok().map(drop)
}

/// Does something to the host while a client in it asks without a pause; gives the longest time from one answer to
/// the next, in ms, besides.
fn talking(
    host: &LabHost,
    service: &Service,
    act: impl FnOnce() -> Result<crate::Output, LabError>,
) -> Result<(crate::Output, f64), LabError> {
    const ANSWERS: &str = "/run/fettle-lab-answers";
    let client = format!(
        "{{ date +%s%N; while [ -e {ANSWERS}.go ]; do if {{ {}; }} >/dev/null 2>&1; then echo answer; date +%s%N; fi; sleep 0.01; done; date +%s%N; }} > {ANSWERS}",
        service.ask
    );
    host.sh(&format!("touch {ANSWERS}.go"))?.ok()?;
    let running = host.command("bash").args(["-c", &client]).timeout(PATIENCE * 2).spawn()?;
    let result = act();
    host.exec(&["rm", "-f", &format!("{ANSWERS}.go")])?;
    running.wait(SETTLE)?;
    let said = host.exec(&["cat", ANSWERS])?.ok()?;
    if !said.contains("answer") {
        return Err(LabError::Fleet {
            what: format!("{} never answered its client", service.name),
        });
    }
    // The beginning and the end count as answers: a silence that lasts until then is a gap as well.
    let times: Vec<f64> = said.lines().filter_map(|l| l.parse().ok()).collect();
    let gap = times.windows(2).map(|w| (w[1] - w[0]) / 1e6).fold(0.0, f64::max);
    Ok((result?, gap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_at_least_25_each_with_a_name_of_its_own() {
        let all = names();
        assert!(all.len() >= 25, "{}", all.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn what_is_patched_is_installed_by_its_stage_or_with_it() {
        for stage in &STAGES {
            assert!(stage.services.iter().all(|s| !s.ask.is_empty() && !s.patch.is_empty()));
        }
    }
}
