//! Making a pack: one look at the store, so that all of it is of one moment.

use super::{Gone, Kept, LEDGER, MANIFEST, Told};
use crate::app::{App, now};
use crate::plain;
use crate::reports::{self, Wanted};
use crate::web::pages;
use fettle_core::finding::FindingState;
use fettle_core::ledger::GENESIS;
use fettle_core::report::Period;
use fettle_core::rollout::RolloutEvent;
use fettle_core::{AssignmentId, Digest, HostId, Problem, ProblemKind, RolloutId, Timestamp};
use fettle_store::{View, assignments, findings, ledger, rollouts, transactions};
use fettle_wire::evidence::{EvidenceFile, EvidenceManifest, LedgerPart, SignedEvidence};
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Entries of the ledger that are read at a time.
const PIECE: u64 = 10_000;

/// The key that this server signs packs with, base64: the same as for bundles of feeds.
pub(crate) fn own_key(app: &App) -> String {
    app.trust.feed_signer.public_key()
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    let hint = "this is a defect of Fettle: please report it";
    Problem::new(ProblemKind::Internal, "evidence", format!("the evidence pack: {error}"), hint)
}

/// The files of a pack, by name.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn put(&mut self, name: String, value: &impl Serialize) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(value).map_err(|e| failed(&e))?;
        self.0.insert(name, bytes);
        Ok(())
    }
}

/// The pack.
pub(crate) fn export(app: &App, wanted: &Wanted) -> Result<Vec<u8>, Problem> {
    let made_at = now();
    let period = Period::asked(wanted.from, wanted.to, made_at)?;
    let (files, part) = app.store.read::<_, Problem>(|view| {
        let mut files = Files::default();
        let report = reports::report(app, view, wanted)?;
        files.put("report.json".to_owned(), &report)?;
        let html = pages::report_document(&report).into_string();
        files.0.insert("report.html".to_owned(), html.into_bytes());
        let (part, told) = ledger_part(view, period, &mut files)?;
        moved(view, period, told, &mut files)?;
        fixed(view, period, &mut files)?;
        Ok((files, part))
    })?;
    let of = |(name, bytes): (&String, &Vec<u8>)| EvidenceFile {
        name: name.clone(),
        sha256: Digest::of(bytes),
        bytes: bytes.len() as u64,
    };
    let manifest = EvidenceManifest {
        made_at,
        from: period.from,
        to: period.to,
        ledger: part,
        order_key: app.trust.signer.public_key(),
        files: files.0.iter().map(of).collect(),
    };
    archive(&SignedEvidence::seal(&app.trust.feed_signer, &manifest), made_at, &files)
}

fn archive(signed: &SignedEvidence, made_at: Timestamp, files: &Files) -> Result<Vec<u8>, Problem> {
    let signed = serde_json::to_vec_pretty(signed).map_err(|e| failed(&e))?;
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut put = |name: &str, bytes: &[u8]| {
        plain::put(&mut tar, name, bytes, made_at).map_err(|e| failed(&e))
    };
    put(MANIFEST, &signed)?;
    for (name, bytes) in &files.0 {
        put(name, bytes)?;
    }
    tar.into_inner().and_then(GzEncoder::finish).map_err(|e| failed(&e))
}

/// The ledger from the first entry of the period to its last; what a clock that was set back wrote in between is in it too.
/// And the rollouts that something is said of there.
fn ledger_part(
    view: &View<'_>,
    period: Period,
    files: &mut Files,
) -> Result<(LedgerPart, BTreeSet<RolloutId>), Problem> {
    let (first, last) = ledger::between(view, period.from, period.to)?.unwrap_or((1, 0));
    let before = match first {
        1 => (0, GENESIS),
        first => {
            let entry = ledger::after(view, first - 2, 1)?.pop();
            entry.map_or((0, GENESIS), |entry| (entry.index, entry.hash))
        }
    };
    let mut part =
        LedgerPart { after: before.0, previous: before.1, last: before.0, head: before.1 };
    let (mut lines, mut told) = (Vec::new(), BTreeSet::new());
    while part.last < last {
        for entry in ledger::after(view, part.last, PIECE.min(last - part.last))? {
            serde_json::to_writer(&mut lines, &entry).map_err(|e| failed(&e))?;
            lines.push(b'\n');
            (part.last, part.head) = (entry.index, entry.hash);
            if entry.kind == "rollout.event" {
                told.insert(RolloutId(entry.subject));
            }
        }
    }
    files.0.insert(LEDGER.to_owned(), lines);
    Ok((part, told))
}

/// Rollouts with their orders and journals.
fn moved(
    view: &View<'_>,
    period: Period,
    mut told: BTreeSet<RolloutId>,
    files: &mut Files,
) -> Result<(), Problem> {
    // One that ended before may have been taken back since: the ledger's part says so.
    told.extend(rollouts::between(view, period.from, period.to)?.into_iter().map(|line| line.id));
    for id in told {
        let events = rollouts::events(view, &id, 0)?;
        let events: Vec<_> = events.into_iter().map(|e| (e.at, e.event)).collect();
        let mut orders: BTreeSet<(HostId, AssignmentId)> = BTreeSet::new();
        for (_, event) in &events {
            match event {
                RolloutEvent::Granted { host, assignment, .. }
                | RolloutEvent::UndoAsked { host, assignment, .. }
                | RolloutEvent::TrafficAsked { host, assignment, .. } => {
                    orders.insert((host.clone(), assignment.clone()));
                }
                _ => {}
            }
        }
        for (host, order) in orders {
            // Orders and journals of a host that was retired went with it; the ledger has what they came to.
            if let Some(signed) = assignments::signed(view, &order)? {
                files.put(format!("orders/{order}.json"), &signed)?;
            }
            if let Some(journal) = transactions::of_assignment(view, &host, &order)? {
                let (tx, assignment, entries) = (journal.id, journal.assignment, journal.entries);
                let kept = Kept { host, id: tx, assignment, entries };
                files.put(format!("transactions/{order}.json"), &kept)?;
            }
        }
        files.put(format!("rollouts/{id}.json"), &Told { id, events })?;
    }
    Ok(())
}

fn fixed(view: &View<'_>, period: Period, files: &mut Files) -> Result<(), Problem> {
    let mut lines = Vec::new();
    let mut wrong = None;
    findings::each_between(view, period.from, period.to, |dated| {
        let mark = dated.mark;
        let Some(fixed_at) = mark.fixed_at.filter(|at| period.holds(*at)) else { return };
        if mark.state != FindingState::Fixed {
            return;
        }
        let gone = Gone {
            host: mark.host.to_owned(),
            id: mark.id.to_owned(),
            source: mark.source.to_owned(),
            severity: mark.severity,
            first_seen: dated.first_seen,
            deadline: mark.deadline,
            fixed_at,
        };
        match serde_json::to_writer(&mut lines, &gone) {
            Ok(()) => lines.push(b'\n'),
            Err(error) => wrong = Some(error),
        }
    })?;
    if let Some(error) = wrong {
        return Err(failed(&error));
    }
    files.0.insert("fixed.jsonl".to_owned(), lines);
    Ok(())
}
