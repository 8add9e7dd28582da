//! `fettle rollout watch`: follow a rollout to its end. On a terminal one spinner a host; elsewhere a line a change.

use crate::client::{Client, escape};
use crate::output::{line, shape};
use fettle_core::rollout::{HostState, Phase};
use fettle_core::transaction::Progress;
use fettle_core::{HostId, Problem, ProblemKind};
use fettle_wire::api::{RolloutDetail, RolloutHost};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

/// How often the server is asked.
const PACE: Duration = Duration::from_millis(500);
/// So many unanswered questions in a row end the watch: a server that restarts is back by then.
const PATIENCE: u32 = 60;

/// Watches until the rollout stands still with no host at work.
pub(crate) fn watch(client: &Client, id: &str) -> Result<(), Problem> {
    let path = format!("/rollouts/{}", escape(id));
    let mut screen = Screen::new();
    let mut unanswered = 0;
    loop {
        match client.get::<RolloutDetail>(&path) {
            Ok(rollout) => {
                unanswered = 0;
                screen.show(&rollout);
                if let Some(end) = end(&rollout) {
                    screen.close();
                    return end;
                }
            }
            Err(problem) if problem.kind == ProblemKind::Unavailable && unanswered < PATIENCE => {
                if unanswered == 0 {
                    screen.note("the server does not answer; hosts go on, and so does this");
                }
                unanswered += 1;
            }
            Err(problem) => return Err(problem),
        }
        std::thread::sleep(PACE);
    }
}

/// How it ended, once no host is at work any more.
fn end(rollout: &RolloutDetail) -> Option<Result<(), Problem>> {
    let at_work = |h: &RolloutHost| matches!(h.run.state, HostState::Granted | HostState::Redeemed);
    if rollout.hosts.iter().any(at_work) {
        return None;
    }
    let id = &rollout.row.id;
    let refused = |message: String, hint: String| {
        Some(Err(Problem::new(ProblemKind::Refused, "rollout-not-done", message, hint)))
    };
    match &rollout.row.phase {
        Phase::Running | Phase::Paused { .. } => None,
        Phase::Done => {
            let failed = rollout.hosts.iter().filter(|h| h.run.state != HostState::Patched).count();
            if failed == 0 {
                return Some(Ok(()));
            }
            refused(
                format!(
                    "rollout {id} is done, {failed} of {} hosts are not patched",
                    rollout.hosts.len()
                ),
                format!("fettle rollout show {id}"),
            )
        }
        Phase::Halted { hold } => refused(
            format!("rollout {id} halted: {hold}"),
            format!(
                "look with `fettle rollout show {id}`, then `fettle rollout resume {id}` or `abort {id}`"
            ),
        ),
        Phase::Aborted { by, reason } => refused(
            format!("rollout {id} was aborted by {by}: {reason}"),
            format!("fettle rollout show {id}"),
        ),
    }
}

/// What a host is doing, in a few words.
pub(crate) fn doing(host: &RolloutHost) -> String {
    match &host.run.state {
        HostState::Redeemed | HostState::Granted => {
            let undoing = host.transaction.as_ref().is_some_and(|t| t.undo.is_some());
            let running =
                host.transaction.as_ref().and_then(|t: &Progress| t.running).or(host.run.step);
            match running {
                _ if undoing => "undo".to_owned(),
                Some(step) => step.word().to_owned(),
                None => "waits for the host's next check-in".to_owned(),
            }
        }
        HostState::Undone { reason }
        | HostState::Refused { reason, .. }
        | HostState::Quarantined { reason } => reason.clone(),
        HostState::Cancelled { hold } => hold.to_string(),
        HostState::Patched | HostState::Pending => String::new(),
    }
}

struct Screen {
    bars: Option<MultiProgress>,
    hosts: BTreeMap<HostId, (ProgressBar, String)>,
    notes: Vec<String>,
}

impl Screen {
    fn new() -> Self {
        let bars = std::io::stdout().is_terminal().then(MultiProgress::new);
        Self { bars, hosts: BTreeMap::new(), notes: Vec::new() }
    }

    fn show(&mut self, rollout: &RolloutDetail) {
        for host in &rollout.hosts {
            let ring = rollout.waves.get(host.run.wave as usize).map_or("", |w| w.ring.as_str());
            let word = host.run.state.word();
            let text =
                format!("{} {:<12} {ring:<8} {word:<11} {}", shape(word).0, host.name, doing(host));
            let text = text.trim_end().to_owned();
            let (bar, last) = self.hosts.entry(host.id.clone()).or_insert_with(|| {
                let bar = match &self.bars {
                    Some(bars) => bars.add(ProgressBar::new_spinner()),
                    None => ProgressBar::hidden(),
                };
                if let Ok(style) = ProgressStyle::with_template("{msg} {elapsed:>4}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(500));
                (bar, String::new())
            });
            if *last != text {
                bar.set_message(text.clone());
                if self.bars.is_none() {
                    line(&text);
                }
                *last = text;
            }
            if host.run.state.is_terminal() && !bar.is_finished() {
                bar.finish();
            }
        }
        for waiting in &rollout.waiting {
            // A hold of a host says its time; one of the whole rollout is said once.
            if waiting.host.is_none() {
                self.note(&format!("waits: {}", waiting.hold));
            }
        }
    }

    /// Says something once.
    fn note(&mut self, text: &str) {
        if self.notes.iter().any(|said| said == text) {
            return;
        }
        self.notes.push(text.to_owned());
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(format!("  {text}"));
            }
            None => line(&format!("  {text}")),
        }
    }

    fn close(&mut self) {
        for (bar, _) in self.hosts.values() {
            if !bar.is_finished() {
                bar.finish();
            }
        }
    }
}
