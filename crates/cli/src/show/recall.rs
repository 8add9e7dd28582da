//! Recalls.

use crate::output::{ago, hint, line, now, print, state, table};
use fettle_wire::api::{Page, RecallDetail, RecallRow};

/// All recalls.
pub(crate) fn list(page: &Page<RecallRow>) {
    let Some(first) = page.items.first() else {
        line("nothing is recalled");
        hint("fettle recall add PACKAGE=VERSION --reason WHY");
        return;
    };
    let mut out = table(&["PACKAGE", "VERSION", "HOSTS", "OFFERED TO", "RECALLED", "BY", "WHY"]);
    for RecallRow { recall, hosts, offered } in &page.items {
        out.add_row([
            recall.package.clone(),
            recall.version.clone(),
            hosts.to_string(),
            offered.to_string(),
            ago(recall.at, now()),
            recall.by.clone(),
            recall.reason.clone(),
        ]);
    }
    print(&out);
    hint(&format!("fettle recall show {}={}", first.recall.package, first.recall.version));
}

/// One recall: what it stopped, and who has the version.
pub(crate) fn one(it: &RecallDetail) {
    let RecallRow { recall, hosts, offered } = &it.row;
    line(&format!(
        "{} {} is recalled by {} ({}): {}",
        recall.package,
        recall.version,
        recall.by,
        ago(recall.at, now()),
        recall.reason
    ));
    line(&format!("{hosts} hosts have it, {offered} are offered it; no plan takes it"));
    if !it.rollouts.is_empty() {
        line("");
        let mut out = table(&["ROLLOUT", "STATE", "HOSTS THAT WOULD STILL GET IT"]);
        for rollout in &it.rollouts {
            out.add_row(vec![
                rollout.id.to_string().into(),
                state(rollout.phase.word()),
                match rollout.at_work {
                    0 => rollout.waiting.into(),
                    n => format!("{}; {n} are getting it now", rollout.waiting).into(),
                },
            ]);
        }
        print(&out);
    }
    if !it.hosts.is_empty() {
        line("");
        let mut out = table(&["HOST", "PACKAGES", "BROUGHT BY", "WAY BACK"]);
        for host in &it.hosts {
            let back = match (&host.rollout, &host.not_undone) {
                _ if host.undoing => "is being taken back".to_owned(),
                (_, Some(why)) => why.clone(),
                (Some(_), None) => "kept on the host".to_owned(),
                (None, None) => "none: no rollout brought it".to_owned(),
            };
            let by = host.rollout.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string);
            out.add_row([host.name.clone(), host.packages.join(", "), by, back]);
        }
        print(&out);
    }
    let ready = it.hosts.iter().find(|h| !h.undoing && h.not_undone.is_none());
    let undo = ready.and_then(|h| Some((h.rollout.as_ref()?, &h.name)));
    if let Some((rollout, host)) = undo {
        hint(&format!("fettle rollout undo {rollout} --host {host}"));
    } else if let Some(halted) = it.rollouts.first() {
        hint(&format!("fettle rollout abort {}", halted.id));
    } else {
        hint(&format!("fettle recall lift {}={} --reason WHY", recall.package, recall.version));
    }
}

/// A recall was lifted.
pub(crate) fn lifted(what: &str) {
    line(&format!("{what} may be planned again; a rollout that the recall halted stays so"));
    hint("fettle rollout list");
}
