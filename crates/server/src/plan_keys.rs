//! Plan keys: published here, and held elsewhere. The server passes on what operators signed and can make none of it.

use crate::app::App;
use fettle_core::plan::{OrderTree, Plan};
use fettle_core::rollout::Rollout;
use fettle_core::{AssignmentId, Digest, Hold, HostId, Problem, ProblemKind, Timestamp};
use fettle_store::{Tx, View, plan_keys as stored};
use fettle_wire::api::{PlanSignatureRow, PlanSigning};
use fettle_wire::plan_key::{
    KeySet, LONGEST_LIFE, NotFollowed, PlanProof, PlanStatement, SignedKeySet, SignedPlan,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A host is told of so many sets at once; the next check-in brings the others.
const AT_ONCE: u64 = 16;
/// So many trees are kept: one for each rollout under way, mostly.
const TREES: usize = 8;

/// Trees of plans under way, by digest: what each host is shown is cut from them.
#[derive(Default)]
pub(crate) struct Trees(Mutex<BTreeMap<Digest, Arc<OrderTree>>>);

impl Trees {
    fn of(&self, digest: Digest, plan: &Plan) -> Arc<OrderTree> {
        let known = |trees: &BTreeMap<Digest, Arc<OrderTree>>| trees.get(&digest).cloned();
        if let Some(tree) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return tree;
        }
        // Nobody waits while it grows; two that grow at once are the same.
        let tree = Arc::new(OrderTree::of(plan));
        let mut trees = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if trees.len() >= TREES {
            trees.clear();
        }
        trees.insert(digest, tree.clone());
        tree
    }
}

/// The set in force, and how it was published.
pub(crate) fn in_force(view: &View<'_>) -> Result<Option<(KeySet, SignedKeySet)>, Problem> {
    let Some(signed) = stored::current(view)? else { return Ok(None) };
    let set = signed.open().map_err(|e| not_taken(&e))?;
    Ok(Some((set, signed)))
}

/// Puts a set in force, if it follows the one that is.
pub(crate) fn publish(tx: &mut Tx<'_>, signed: &SignedKeySet) -> Result<KeySet, Problem> {
    let before = in_force(tx)?.map(|(set, _)| set);
    let set = signed.follow(before.as_ref()).map_err(|e| not_taken(&e))?;
    stored::publish(tx, &set, signed)?;
    Ok(set)
}

fn not_taken(error: &NotFollowed) -> Problem {
    let (kind, hint) = match error {
        NotFollowed::TooFew { .. } => {
            (ProblemKind::Refused, "more have to sign it: `fettle key sign FILE --key KEYFILE`")
        }
        NotFollowed::Version { .. } => (
            ProblemKind::Conflict,
            "`fettle key list` names the version in force; propose the next one",
        ),
        _ => (
            ProblemKind::BadInput,
            "make it with `fettle key propose --threshold 2 --key NAME=KEY --out FILE`",
        ),
    };
    Problem::new(kind, "plan-keys-refused", format!("these plan keys are not taken: {error}"), hint)
}

/// Keeps what an operator signed of a plan, if it holds.
pub(crate) fn sign(tx: &mut Tx<'_>, plan: &Plan, signed: &SignedPlan) -> Result<(), Problem> {
    let Some((set, _)) = in_force(tx)? else {
        let hint = "publish a set first: `fettle key propose --threshold 2 --key NAME=KEY --out FILE`, `fettle key sign FILE --key KEYFILE`, `fettle key publish FILE`";
        let message = "no plan keys are published: hosts ask for no signature";
        return Err(Problem::new(ProblemKind::Conflict, "no-plan-keys", message, hint));
    };
    let wrong = |message: String| {
        let hint = format!("sign it again: `fettle plan sign {} --key KEYFILE`", plan.number);
        Problem::new(ProblemKind::Refused, "signature-refused", message, hint)
    };
    let (statement, key) = signed.open(&set).map_err(|e| {
        wrong(format!("the signature is of none of the {} plan keys in force: {e}", set.keys.len()))
    })?;
    check(plan, &statement, tx.now())
        .map_err(|what| wrong(format!("plan {}: {what}", plan.number)))?;
    Ok(stored::sign(tx, &key, &statement, signed)?)
}

fn check(plan: &Plan, it: &PlanStatement, now: Timestamp) -> Result<(), String> {
    let tree = OrderTree::of(plan);
    if it.plan != plan.number || it.digest != plan.digest() {
        return Err(format!("another plan was signed: {} ({})", it.plan, it.digest.short()));
    }
    if it.orders != tree.root() || it.hosts != plan.hosts.len() as u64 {
        return Err("other orders were signed than those of the plan".to_owned());
    }
    if it.waves.len() != plan.waves.len() {
        return Err(format!("{} waves were signed of {}", it.waves.len(), plan.waves.len()));
    }
    if it.expires_at <= now || it.expires_at.duration_since(now) > LONGEST_LIFE {
        let days = LONGEST_LIFE.as_hours() / 24;
        return Err(format!("signed until {}: between now and {days} days", it.expires_at));
    }
    Ok(())
}

/// How a plan stands with the signatures that hosts will ask for. `None`: no plan keys are published.
pub(crate) fn standing(
    view: &View<'_>,
    number: u64,
    digest: Digest,
    now: Timestamp,
) -> Result<Option<PlanSigning>, Problem> {
    let Some((set, _)) = in_force(view)? else { return Ok(None) };
    let mut signatures = Vec::new();
    for signed in stored::of_plan(view, number)? {
        // Of a set before this one: nobody is asked for it any more.
        let Ok((statement, key)) = signed.open(&set) else { continue };
        let not = if statement.digest != digest {
            Some("other content was signed".to_owned())
        } else {
            (statement.expires_at <= now).then(|| format!("expired at {}", statement.expires_at))
        };
        signatures.push(PlanSignatureRow {
            name: set.name_of(&key).unwrap_or_default().to_owned(),
            key,
            signed_at: statement.signed_at,
            expires_at: statement.expires_at,
            not,
        });
    }
    let given = signatures.iter().filter(|row| row.not.is_none()).count() as u32;
    let (version, needed, label) = (set.version, set.threshold, set.label());
    Ok(Some(PlanSigning { version, label, given, needed, signatures }))
}

/// What keeps a plan from starting, as far as signatures go.
pub(crate) fn hold(signing: Option<&PlanSigning>) -> Option<Hold> {
    let signing = signing.filter(|it| it.given < it.needed)?;
    Some(Hold::NotSigned { given: signing.given, needed: signing.needed })
}

/// What a host is told with its assignment: the sets that follow the one it knows, and what shows that operators signed
/// the plan.
pub(crate) fn for_host(
    app: &App,
    view: &View<'_>,
    host: &HostId,
    version: u64,
    assignment: Option<&AssignmentId>,
    rollouts: &[Arc<Rollout>],
) -> Result<(Vec<SignedKeySet>, Option<PlanProof>), Problem> {
    let newer = stored::after(view, version, AT_ONCE)?;
    let applies = |state: &&Arc<Rollout>| {
        state.hosts.get(host).is_some_and(|run| run.assignment.as_ref() == assignment)
    };
    let Some(state) = rollouts.iter().filter(|_| assignment.is_some()).find(applies) else {
        return Ok((newer, None));
    };
    let signatures = stored::of_plan(view, state.plan.number)?;
    let planned = state.plan.hosts.get(host).filter(|_| !signatures.is_empty());
    let proof = planned.and_then(|planned| {
        let proof = app.trees.of(state.plan_digest, &state.plan).proof(host)?;
        Some(PlanProof { wave: planned.wave, proof, signatures })
    });
    Ok((newer, proof))
}
