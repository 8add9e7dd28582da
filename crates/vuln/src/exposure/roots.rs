//! Other roots on a host. Each is judged as a host of its own, by the data of its own release; what is found there is told
//! under the name of the root ([`subject`]), so that no patch of the host is taken for its fix.
//!
//! A root that is not listed any more is gone, and with it what was found in it: proved. Where the host says that it could
//! not look for all of its roots, what was found stays as it was.

use super::facts::has_gap;
use super::judge::state_with;
use super::{Doubt, Exception, HostView, Judgement, Withdrawn};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::Inventory;
use fettle_core::root::{ROOTS_GAP, of_subject, subject};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One of the systems of a host: the host itself, or a root on it.
pub(super) struct System<'a> {
    /// Which root; `None`: the host itself.
    pub(super) root: Option<Cow<'a, str>>,
    pub(super) inventory: Cow<'a, Inventory>,
    /// Of this system, under the plain names.
    pub(super) previous: Cow<'a, [Finding]>,
    /// Likewise.
    pub(super) accepted: Cow<'a, [Exception]>,
}

/// The host, then its roots as it lists them.
pub(super) fn systems<'a>(view: &HostView<'a>) -> Vec<System<'a>> {
    let in_roots = view.previous.iter().any(|f| f.root().is_some());
    let previous = match in_roots {
        true => view.previous.iter().filter(|f| f.root().is_none()).cloned().collect(),
        false => Cow::Borrowed(view.previous),
    };
    let mut systems = vec![System {
        root: None,
        inventory: Cow::Borrowed(view.inventory),
        previous,
        accepted: Cow::Borrowed(view.accepted),
    }];
    for root in &view.inventory.roots {
        let id = root.id();
        let its = |f: &&Finding| f.root() == Some(&id);
        systems.push(System {
            inventory: Cow::Owned(root.inventory()),
            previous: view.previous.iter().filter(its).map(plain).collect(),
            accepted: accepted(&id, view.accepted).into(),
            root: Some(id.into()),
        });
    }
    systems
}

impl System<'_> {
    /// To be judged as a host of its own. Only of the host itself something may be known that ran before.
    pub(super) fn view<'s>(
        &'s self,
        whole: &HostView<'s>,
        nothing: &'s BTreeMap<String, String>,
    ) -> HostView<'s> {
        HostView {
            host: whole.host,
            inventory: &self.inventory,
            previous: &self.previous,
            ran_before: if self.root.is_none() { whole.ran_before } else { nothing },
            accepted: &self.accepted,
        }
    }
}

/// The exceptions that hold for a root, under its plain names.
pub(super) fn accepted(root: &str, accepted: &[Exception]) -> Vec<Exception> {
    let its = |exception: &Exception| {
        let source = match exception.source.as_deref().map(of_subject) {
            None => None,
            Some((Some(at), source)) if at == root => Some(source.to_owned()),
            Some(_) => return None,
        };
        Some(Exception { source, ..exception.clone() })
    };
    accepted.iter().filter_map(its).collect()
}

/// A finding under the name that its package has within its root.
fn plain(finding: &Finding) -> Finding {
    Finding { source: finding.package().to_owned(), ..finding.clone() }
}

/// Under the name that it has on the host.
pub(super) fn named(root: Option<&str>, source: &str) -> String {
    root.map_or_else(|| source.to_owned(), |root| subject(root, source))
}

/// Puts the judgements of a host's systems together.
pub(super) fn together(
    view: &HostView<'_>,
    judged: impl IntoIterator<Item = (Option<String>, Judgement)>,
) -> Option<Judgement> {
    let mut whole: Option<Judgement> = None;
    let mut listed = BTreeSet::new();
    for (root, judgement) in judged {
        let (Some(whole), Some(root)) = (&mut whole, root) else {
            whole.get_or_insert(judgement);
            continue;
        };
        let name = |source: String| subject(&root, &source);
        whole.findings.extend(
            judgement.findings.into_iter().map(|f| Finding { source: name(f.source), ..f }),
        );
        whole.withdrawn.extend(
            judgement.withdrawn.into_iter().map(|w| Withdrawn { source: name(w.source), ..w }),
        );
        whole
            .doubts
            .extend(judgement.doubts.into_iter().map(|d| Doubt { source: name(d.source), ..d }));
        whole.roots.insert(root.clone(), judgement.coverage);
        listed.insert(root);
    }
    let mut whole = whole?;
    let gone = view.previous.iter().filter(|f| f.root().is_some_and(|root| !listed.contains(root)));
    let unseen = roots_unknown(view.inventory);
    whole.findings.extend(gone.map(|f| gone_with_its_root(f, unseen, view.accepted)));
    whole.findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
    Some(whole)
}

/// Could the host not look for all of its roots?
pub(super) fn roots_unknown(inventory: &Inventory) -> bool {
    has_gap(inventory, &[ROOTS_GAP])
}

/// What becomes of a finding whose root is not listed.
fn gone_with_its_root(finding: &Finding, unseen: bool, accepted: &[Exception]) -> Finding {
    let mut now = Finding { class: String::new(), deadline: None, ..finding.clone() };
    if unseen {
        let state = without_exception(finding.state, finding.fixed_version.is_some());
        now.state = state_with(state, &finding.id, &finding.source, accepted);
    } else {
        now.state = FindingState::Fixed;
        now.installed = String::new();
        (now.in_use, now.exposed) = (false, false);
    }
    now
}

/// The state under an exception. What that covered is not known any more; if it ends, the worst is assumed.
pub(super) fn without_exception(state: FindingState, has_fix: bool) -> FindingState {
    match state {
        FindingState::Accepted | FindingState::NotAffected if has_fix => FindingState::Open,
        FindingState::Accepted | FindingState::NotAffected => FindingState::NoFixYet,
        state => state,
    }
}
