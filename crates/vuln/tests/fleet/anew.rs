//! What changed judged anew, beside the judge of everything: both must say the same.

use super::Alone;
use fettle_core::HostId;
use fettle_core::finding::Finding;
use fettle_vuln::exposure::{Catalogue, Changed, HostView, Withdrawn};
use std::collections::BTreeMap;

impl Alone {
    /// The findings of a host by a new catalogue, and what it took back, with what did not change left as it was.
    pub(super) fn judge_anew(
        &self,
        host: &HostId,
        catalogue: &Catalogue,
        changed: &Changed,
    ) -> (Vec<Finding>, Vec<Withdrawn>) {
        let Some(inventory) = &self.inventory else { return Default::default() };
        let concern = changed.of(inventory);
        let (previous, rest): (Vec<Finding>, Vec<Finding>) =
            self.findings.iter().cloned().partition(|f| concern.has(&f.source));
        let view = HostView {
            host,
            inventory,
            previous: &previous,
            ran_before: &BTreeMap::new(),
            accepted: &self.accepted,
        };
        let mut anew = catalogue.judge_anew(&view, &concern);
        anew.findings.extend(rest);
        anew.findings.sort_by(|a, b| (&a.source, &a.id).cmp(&(&b.source, &b.id)));
        (anew.findings, anew.withdrawn)
    }
}
