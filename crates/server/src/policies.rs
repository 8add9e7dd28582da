//! Policies in force, parsed.

use crate::app::{App, now};
use fettle_core::host::Host;
use fettle_core::policy::{Policy, choose};
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_store::View;
use fettle_store::policies::{self, PolicyRecord};
use std::sync::Arc;

/// Policies in force.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// By name.
    pub(crate) records: Vec<PolicyRecord>,
    /// Those of `records` that parse.
    pub(crate) parsed: Vec<Policy>,
    /// The others, by name, with why: another version of Fettle took them.
    pub(crate) unread: Vec<(String, String)>,
}

impl Policies {
    /// Parses what is in force.
    pub(crate) fn of_records(records: Vec<PolicyRecord>) -> Self {
        let (mut parsed, mut unread) = (Vec::new(), Vec::new());
        for record in &records {
            match Policy::parse(&record.text) {
                Ok(policy) => parsed.push(policy),
                Err(errors) => unread.push((record.name.clone(), listed(&errors))),
            }
        }
        Self { records, parsed, unread }
    }

    /// Nothing is planned while a policy in force cannot be read: nobody knows which hosts it selects, and another policy
    /// would govern them.
    ///
    /// # Errors
    /// Where there is one.
    pub(crate) fn all_read(&self) -> Result<(), Problem> {
        let Some((name, why)) = self.unread.first() else { return Ok(()) };
        Err(Problem::new(
            ProblemKind::Environment,
            "policy-not-read",
            format!(
                "policy `{name}` is in force and this version of Fettle cannot read it, so nobody knows whose hosts are whose: {why}"
            ),
            format!(
                "`fettle policy show {name}` has its text: correct it, then fettle policy apply FILE"
            ),
        ))
    }

    /// The policy for a host. Where two of equal priority select it, none does: that is an error of the policies,
    /// which `apply` refuses, but labels can change later.
    pub(crate) fn of(&self, host: &Host) -> Option<&Policy> {
        choose(&self.parsed, host).ok().flatten()
    }

    /// Which text a policy is of: its name, and the digest of that.
    pub(crate) fn text_of(&self, policy: Option<&Policy>) -> Option<String> {
        let name = &policy?.name;
        let record = self.records.iter().find(|record| record.name == *name)?;
        Some(format!("{name} {}", record.digest))
    }

    /// How many acceptances have ended by now.
    pub(crate) fn ended_acceptances(&self, now: Timestamp) -> usize {
        self.parsed.iter().flat_map(|p| &p.acceptances).filter(|a| a.until <= now).count()
    }
}

/// Puts the policies that the store has into force.
pub(crate) fn load(app: &App) -> Result<(), Problem> {
    // Within a write, of nothing: of two that are applied at once the later one is in force, and whoever reports meanwhile is
    // rated by what was in force before, and written down before all hosts are rated by this, or is rated by this.
    let alone = app.store.write::<_, Problem>("server", now(), |tx| put_in_force(app, tx));
    // The store has them already.
    alone.or_else(|_| app.store.read(|view| put_in_force(app, view)))
}

fn put_in_force(app: &App, view: &View<'_>) -> Result<(), Problem> {
    let policies = Policies::of_records(policies::current(view)?);
    for (policy, error) in &policies.unread {
        tracing::error!(policy, error, "a policy in force cannot be read");
    }
    app.set_policies(Arc::new(policies));
    Ok(())
}

/// Parses a text, or says everything that is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Policy, Problem> {
    Policy::parse(text).map_err(|errors| {
        let hint = "correct it; `fettle policy check FILE` says when it is right";
        Problem::new(ProblemKind::BadInput, "bad-policy", listed(&errors), hint)
    })
}

fn listed(errors: &[fettle_core::policy::PolicyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
