//! What the hosts of a cohort have installed: read once, and shared by all of them.

use crate::StoreError;
use crate::store::lock;
use fettle_core::inventory::Package;
use fettle_core::{Digest, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Installed packages, by name and architecture, as an inventory has them.
pub(crate) type Packages = Shared<Vec<Shared<Package>>>;

/// The packages of each cohort. A cohort is the digest of its packages: what is kept of one is never out of date.
#[derive(Debug, Default)]
pub(crate) struct Cohorts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    lists: BTreeMap<Digest, Packages>,
    /// What cohorts have in common is most of their packages.
    packages: BTreeSet<Shared<Package>>,
    /// How many lists the last look for those that nobody holds left.
    left: usize,
}

/// So many cohorts more are kept before those that nobody holds are looked for.
const MORE: usize = 64;

impl Cohorts {
    /// The packages of a cohort; `read` has them where they are not known yet.
    pub(crate) fn packages(
        &self,
        cohort: Digest,
        read: impl FnOnce() -> Result<Packages, StoreError>,
    ) -> Result<Packages, StoreError> {
        if let Some(known) = lock(&self.0).lists.get(&cohort) {
            return Ok(known.clone());
        }
        // Others may read it meanwhile: they read the same.
        let mut list = read()?;
        let kept = &mut *lock(&self.0);
        for package in list.iter_mut() {
            match kept.packages.get(package) {
                Some(known) => *package = known.clone(),
                None => {
                    kept.packages.insert(package.clone());
                }
            }
        }
        let list = kept.lists.entry(cohort).or_insert(list).clone();
        if kept.lists.len() > 2 * kept.left + MORE {
            kept.lists.retain(|_, list| list.is_held_elsewhere());
            kept.packages.retain(Shared::is_held_elsewhere);
            kept.left = kept.lists.len();
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Packages {
        let package = |name: &&str| {
            Shared::from(Package {
                name: (*name).to_owned(),
                architecture: "amd64".into(),
                version: "1".into(),
                source: String::new(),
                source_version: String::new(),
                healthy: true,
                module: String::new(),
            })
        };
        names.iter().map(package).collect()
    }

    #[test]
    fn a_cohort_is_read_once_and_shares_what_it_has_in_common_with_others() {
        let cohorts = Cohorts::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let first = cohorts.packages(a, || Ok(list(&["libc6", "nginx"]))).unwrap();
        let again = cohorts.packages(a, || panic!("it is known")).unwrap();
        assert!(first.is(&again));
        let other = cohorts.packages(b, || Ok(list(&["libc6", "redis"]))).unwrap();
        assert!(other[0].is(&first[0]));
    }

    #[test]
    fn what_nobody_holds_is_forgotten_and_what_somebody_holds_stays() {
        let cohorts = Cohorts::default();
        let held = cohorts.packages(Digest::of(b"held"), || Ok(list(&["nginx"]))).unwrap();
        for n in 0..1000 {
            let name = format!("p{n}");
            drop(cohorts.packages(Digest::of(name.as_bytes()), || Ok(list(&[&name]))).unwrap());
        }
        {
            let kept = lock(&cohorts.0);
            assert!(kept.lists.len() <= 2 + MORE + 1, "{} are kept", kept.lists.len());
            assert!(kept.packages.len() <= 2 + MORE + 1, "{} are kept", kept.packages.len());
        }
        let again = cohorts.packages(Digest::of(b"held"), || panic!("it is held")).unwrap();
        assert!(held.is(&again));
    }
}
