//! `fettle policy`: what one would change, putting it in force, and which one counts for a host.

use crate::args::{Output, Policy};
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{hint, line};
use crate::{planning, policy_check, show};
use fettle_core::policy::{Explained, PolicyDiff};
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_wire::api::{Page, PolicyRow, PolicyVersion};
use std::path::Path;

pub(crate) fn run(ask: &Ask<'_>, what: &Policy) -> Result<(), Problem> {
    match what {
        Policy::Check { files } => policy_check::check(files),
        Policy::Diff { file } => {
            let diff = diff(ask, &policy_check::read(file)?)?;
            ask.print(&diff, |diff| {
                show::policy::diff(diff);
                let condition = diff.from.map_or_else(|| "none".to_owned(), |d| d.to_string());
                hint(&format!("fettle policy apply {} --if {condition}", file.display()));
            })
        }
        Policy::Apply { file, in_force } => apply(ask, file, in_force.as_deref()),
        Policy::List => ask.get("/policies", |page: &Page<PolicyRow>| show::policy::list(page)),
        Policy::Show { name, number: None } => {
            ask.get(&format!("/policies/{}", escape(name)), |row: &PolicyRow| {
                line(row.text.trim_end());
            })
        }
        Policy::Show { name, number: Some(number) } => {
            let page = history(ask, name)?;
            let found = page.items.iter().find(|v| v.version == *number).ok_or_else(|| {
                Problem::new(
                    ProblemKind::NotFound,
                    "not-found",
                    format!("policy `{name}` has no version {number}"),
                    format!("fettle policy history {name}"),
                )
            })?;
            ask.print(found, |version| line(version.text.trim_end()))
        }
        Policy::History { name } => {
            ask.print(&history(ask, name)?, |page| show::policy::history(name, page))
        }
        Policy::Explain { host } => {
            let it: Explained = ask.client()?.get(&format!("/hosts/{}/policy", escape(host)))?;
            let cycle = match &it.policy {
                Some(policy) => planning::of_policy(ask, policy)?,
                None => None,
            };
            ask.print(&it, |it| {
                show::policy::explain(it);
                if let Some(row) = &cycle {
                    line("");
                    show::planning::cycle(row);
                }
            })
        }
    }
}

fn history(ask: &Ask<'_>, name: &str) -> Result<Page<PolicyVersion>, Problem> {
    ask.client()?.get(&format!("/policies/{}/versions?limit=100000", escape(name)))
}

fn diff(ask: &Ask<'_>, text: &str) -> Result<PolicyDiff, Problem> {
    ask.client()?.post_bytes("/policy-diffs", "application/toml", text.as_bytes())
}

/// Applies a policy. What is printed as changed is what was: it is compared first, and applied only while the text it
/// was compared with is still in force.
fn apply(ask: &Ask<'_>, file: &Path, in_force: Option<&str>) -> Result<(), Problem> {
    let text = policy_check::read(file)?;
    if let Some(given) = in_force.filter(|given| *given != "none") {
        given.parse::<Digest>().map_err(|error| {
            let hint = "fettle policy diff FILE and fettle policy history NAME print digests";
            Problem::new(ProblemKind::Usage, "digest", error, hint)
        })?;
    }
    let told = match ask.output() {
        Output::Json => None,
        Output::Table => Some(diff(ask, &text)?),
    };
    let seen = || {
        let from = told.as_ref()?.from;
        Some(from.map_or_else(|| "none".to_owned(), |digest| digest.to_string()))
    };
    let path = match in_force.map(str::to_owned).or_else(seen) {
        Some(condition) => format!("/policies?if={}", escape(&condition)),
        None => "/policies".to_owned(),
    };
    let row: PolicyRow = ask.client()?.post_bytes(&path, "application/toml", text.as_bytes())?;
    ask.print(&row, |row| {
        if let Some(told) = &told {
            show::policy::summary(told);
        }
        line(&format!(
            "policy `{}` version {} is in force for {} hosts",
            row.name, row.version, row.hosts
        ));
        hint(&format!("fettle plan make {}", row.name));
    })
}
