//! `fettle rollout watch`: follow a rollout to its end. On a terminal one picture of the whole that fits it, drawn anew as
//! it changes; elsewhere a line a change.

mod frame;

use crate::client::{Client, escape};
use crate::output::{line, now, shape};
use console::Term;
use fettle_core::rollout::{HostState, Phase};
use fettle_core::transaction::Progress;
use fettle_core::{HostId, Problem, ProblemKind};
use fettle_wire::api::{RolloutDetail, RolloutHost};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How often the server is asked.
const PACE: Duration = Duration::from_millis(500);
/// An answer that takes long is asked for so many times less often than it takes: who watches is no load.
const SPARING: u32 = 10;
/// So many unanswered questions in a row end the watch: a server that restarts is back by then.
const PATIENCE: u32 = 60;

/// Watches until the rollout stands still with no host at work.
pub(crate) fn watch(client: &Client, id: &str) -> Result<(), Problem> {
    let mut screen = Screen::new();
    let path = format!("/rollouts/{}?hosts={}", escape(id), screen.asks_for());
    let mut unanswered = 0;
    loop {
        let asked = Instant::now();
        let answer = client.get::<RolloutDetail>(&path);
        let pause = PACE.max(asked.elapsed() * SPARING);
        match answer {
            Ok(rollout) => {
                unanswered = 0;
                screen.show(&rollout);
                if let Some(end) = end(&rollout) {
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
        std::thread::sleep(pause);
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
            let by_state = &rollout.row.hosts_by_state;
            let all: u64 = by_state.values().sum();
            let failed = all - by_state.get(HostState::Patched.word()).copied().unwrap_or(0);
            if failed == 0 {
                return Some(Ok(()));
            }
            refused(
                format!("rollout {id} is done, {failed} of {all} hosts are not patched"),
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

/// Where it is shown.
enum Screen {
    /// A picture of the whole that is drawn anew, for a wall or a desk.
    Terminal { term: Term, drawn: usize, note: Option<String> },
    /// A line a change, for a log: each host's last line, and what was said of all.
    Lines { hosts: BTreeMap<HostId, String>, notes: BTreeSet<String> },
}

impl Screen {
    fn new() -> Self {
        if std::io::stdout().is_terminal() {
            return Self::Terminal { term: Term::buffered_stdout(), drawn: 0, note: None };
        }
        Self::Lines { hosts: BTreeMap::new(), notes: BTreeSet::new() }
    }

    /// What to ask the server for: a picture of thousands of hosts needs no word of each of them.
    fn asks_for(&self) -> &'static str {
        match self {
            Self::Terminal { .. } => "moving",
            Self::Lines { .. } => "all",
        }
    }

    fn show(&mut self, rollout: &RolloutDetail) {
        match self {
            Self::Terminal { note, .. } => {
                *note = None;
                self.draw(Some(rollout));
            }
            Self::Lines { hosts, .. } => {
                for host in &rollout.hosts {
                    let wave = rollout.waves.get(host.run.wave as usize);
                    let ring = wave.map_or("", |w| w.ring.as_str());
                    let word = host.run.state.word();
                    let (mark, doing) = (shape(word).0, doing(host));
                    let text = format!("{mark} {:<12} {ring:<8} {word:<11} {doing}", host.name);
                    let text = text.trim_end().to_owned();
                    if hosts.get(&host.id) != Some(&text) {
                        line(&text);
                        hosts.insert(host.id.clone(), text);
                    }
                }
                // A hold of a host says its time; one of the whole rollout is said once.
                for waiting in rollout.waiting.iter().filter(|waiting| waiting.host.is_none()) {
                    self.note(&format!("waits: {}", waiting.hold));
                }
            }
        }
    }

    /// Says something once.
    fn note(&mut self, text: &str) {
        match self {
            Self::Terminal { note, .. } => {
                *note = Some(text.to_owned());
                self.draw(None);
            }
            Self::Lines { notes, .. } => {
                if notes.insert(text.to_owned()) {
                    line(&format!("  {text}"));
                }
            }
        }
    }

    /// Draws the picture over the last one. Without a rollout only the note below it is drawn.
    fn draw(&mut self, rollout: Option<&RolloutDetail>) {
        let Self::Terminal { term, drawn, note } = self else { return };
        let (height, width) = term.size();
        let room = usize::from(height).saturating_sub(2);
        if let Some(rollout) = rollout {
            let lines = frame::frame(rollout, now(), usize::from(width), room);
            let _ = term.move_cursor_up(*drawn);
            // Line by line over what was there: a screen that is emptied first flickers.
            for text in &lines {
                let _ = term.clear_line();
                let _ = term.write_line(text);
            }
            *drawn = lines.len();
        }
        let _ = term.clear_to_end_of_screen();
        if let Some(note) = note {
            let _ = term.write_line(&format!("  {note}"));
            *drawn += 1;
        }
        let _ = term.flush();
    }
}
