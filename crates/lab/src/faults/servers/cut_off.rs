//! S2: a change takes away the network by which a host reaches its server. Nobody can tell the host to undo it.

use super::super::Extent;
use super::super::stand::EXCLUDED;
use super::Hall;
use super::hall::PATIENCE;
use crate::LabError;
use crate::repo::{ACME_PORT, AcmeWeb};
use crate::tree;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The canary is cut off, undoes the change by itself, and tells of it when it is there again.
pub(super) fn cut_off(hall: &mut Hall, _: Extent) -> Result<(), LabError> {
    let host = hall.hosts[0].clone();
    // The vendor's archive lies on the host itself, and has the new version in it from now on.
    let excluded: Vec<&str> = EXCLUDED.iter().chain(&["/srv"]).copied().collect();
    let before = tree::snapshot(&host.root(), &excluded)?;
    let (id, _) = hall.roll_out(AcmeWeb::CutsNetwork)?;
    let address = SocketAddr::from((host.ip(), ACME_PORT));
    let mut cut = false;
    let done = hall.fleet.wait("the host to tell of its undo", PATIENCE, || {
        // Where nobody listens for a moment, that is an answer of the host.
        let asked = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        cut |= asked.is_err_and(|e| e.kind() != std::io::ErrorKind::ConnectionRefused);
        let detail: fettle_wire::api::RolloutDetail = hall.fleet.json(&["rollout", "show", &id])?;
        let ended = |word: &str| matches!(word, "undone" | "patched" | "quarantined" | "refused");
        let is_over = detail.hosts.iter().any(|h| ended(h.run.state.word()));
        Ok(is_over.then_some(detail))
    })?;
    hall.count(cut, "the host was reached all the time");
    let told: Vec<_> = done.hosts.iter().map(|h| format!("{:?}", h.run.state)).collect();
    let is_undone = told.iter().any(|told| told.contains("nothing answered this host for 15 s"));
    let differing = tree::diff(&before, &tree::snapshot(&host.root(), &excluded)?);
    let has = Hall::version(&host)?;
    let wrong = match (is_undone, differing.first(), has.as_str()) {
        (false, ..) => Some(format!("{id} ended as {told:?}")),
        (_, Some(first), _) => Some(format!("{} files differ, first {first}", differing.len())),
        (_, _, "1.0") => None,
        (_, _, other) => Some(format!("acme-web is at {other}")),
    };
    hall.ended(wrong);
    Ok(())
}
