//! Policies in force, parsed.

use crate::app::App;
use fettle_core::host::Host;
use fettle_core::policy::{Policy, choose};
use fettle_core::{Problem, ProblemKind, Timestamp};
use fettle_store::policies::{self, PolicyRecord};
use std::sync::Arc;

/// Policies in force.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// By name.
    pub(crate) records: Vec<PolicyRecord>,
    /// Those of `records` that parse.
    pub(crate) parsed: Vec<Policy>,
}

impl Policies {
    /// The policy for a host. Where two of equal priority select it, none does: that is an error of the policies,
    /// which `apply` refuses, but labels can change later.
    pub(crate) fn of(&self, host: &Host) -> Option<&Policy> {
        choose(&self.parsed, host).ok().flatten()
    }

    /// How many acceptances have ended by now.
    pub(crate) fn ended_acceptances(&self, now: Timestamp) -> usize {
        self.parsed.iter().flat_map(|p| &p.acceptances).filter(|a| a.until <= now).count()
    }
}

/// Reads the policies in force from the store.
pub(crate) fn load(app: &App) -> Result<(), Problem> {
    let records = app.store.read(policies::current).map_err(Problem::from)?;
    let mut parsed = Vec::new();
    for record in &records {
        match Policy::parse(&record.text) {
            Ok(policy) => parsed.push(policy),
            // It was parsed when it was applied: another version of Fettle did that.
            Err(errors) => {
                tracing::error!(policy = record.name, error = %listed(&errors), "a policy in force cannot be read")
            }
        }
    }
    app.set_policies(Arc::new(Policies { records, parsed }));
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
