//! The fleet's exposure in memory: what hosts are judged by it, and how far what the store has is what it says.
//!
//! The store is the truth. Of each host the index knows the judgement that the store names ([`Standing`]); where the store
//! names another, or the inventory is another, what the index knows of the host is dropped and taken in again from the store.
//! So a write that was not committed, a server that was killed and a file that is old do no harm: they cost a look.

use crate::app::App;
use crate::feeds::InForce;
use crate::trust::write_private;
use fettle_core::advisory::Ranking;
use fettle_core::finding::Finding;
use fettle_core::inventory::Inventory;
use fettle_core::{Digest, HostId, Problem};
use fettle_store::judged::Standing;
use fettle_store::{View, findings};
use fettle_vuln::exposure::{
    Catalogue, Changed, Exception, FleetIndex, HostView, Touched, Withdrawn,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Beside the database.
const FILE: &str = "exposure.index";

/// The index, and where each host stands.
#[derive(Debug)]
pub(crate) struct Exposed {
    index: FleetIndex,
    /// What the index's catalogue was made of.
    feeds: String,
    /// Hosts whose findings are, or but for what is noted here are, in the store what they are in the index. Only looked up
    /// and written down in order of their names: its own order would be no order.
    known: HashMap<HostId, Known>,
    /// How often a host was taken in.
    taken: u64,
    /// Something changed since it was written to its file.
    changed: bool,
}

impl Default for Exposed {
    fn default() -> Self {
        let index = FleetIndex::new(Arc::default());
        Self { index, feeds: String::new(), known: HashMap::new(), taken: 0, changed: false }
    }
}

/// What the index knows of a host, beside what is exposed on it.
#[derive(Debug, Clone)]
struct Known {
    standing: Standing,
    /// The last time that it was taken in.
    taken: u64,
    /// Has the store kept what came of that? Until then nobody knows.
    is_kept: bool,
    /// The policy that its findings are rated by ([`Aim::policy`]).
    rated: Option<String>,
    behind: Behind,
    /// What vendors took back meanwhile, and nobody has written down yet.
    withdrawn: Vec<Withdrawn>,
}

impl Known {
    /// Has the store what the index says?
    fn is_settled(&self) -> bool {
        self.is_kept && matches!(self.behind, Behind::Nothing) && self.withdrawn.is_empty()
    }
}

/// What of a host's findings the store may have otherwise than the index, because other data came into force.
#[derive(Debug, Clone)]
enum Behind {
    Nothing,
    By(Arc<Changed>),
    Everything,
}

/// A host as it is judged now: what of it may be other than what the store has.
#[derive(Debug)]
pub(crate) struct Look {
    /// What it is judged by.
    pub(crate) by: Arc<Catalogue>,
    /// Which report it is of.
    pub(crate) taken: u64,
    /// All findings in some of its source packages.
    pub(crate) findings: Vec<Finding>,
    /// Those of the same source packages as the store has them.
    pub(crate) before: Stored,
    pub(crate) withdrawn: Vec<Withdrawn>,
}

/// Findings of a host, by vulnerability and source package.
type Stored = BTreeMap<(String, String), findings::FindingRecord>;

/// What a look was of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled<'a> {
    pub(crate) host: &'a HostId,
    /// The policy that it was rated by ([`Aim::policy`]).
    pub(crate) policy: Option<&'a str>,
    /// What it was judged by.
    pub(crate) by: &'a Arc<Catalogue>,
    /// Which report it was of.
    pub(crate) taken: u64,
}

/// How a host is to be looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim<'a> {
    pub(crate) host: &'a HostId,
    /// As the store has it.
    pub(crate) standing: &'a Standing,
    /// Its policy: name, and digest of the text.
    pub(crate) policy: Option<&'a str>,
    pub(crate) accepted: &'a [Exception],
    /// Everything may be rated otherwise.
    pub(crate) all: bool,
}

impl Exposed {
    /// Judges by what is in force now, where that is not what it judges by already.
    pub(crate) fn turn_to(&mut self, in_force: &InForce) {
        let new = &in_force.catalogue;
        if Arc::ptr_eq(self.index.catalogue(), new) {
            return;
        }
        let changed = new.changed_since(self.index.catalogue()).map(Arc::new);
        // Before and after: who has something of it no more was concerned, too.
        let concerned = |index: &FleetIndex| {
            changed.as_ref().map(|changed| index.concerned_by(changed)).unwrap_or_default()
        };
        let before = concerned(&self.index);
        let (_, withdrawn) = self.index.replace_catalogue(new.clone());
        let slots = before | concerned(&self.index);
        match &changed {
            None => self.known.values_mut().for_each(|known| known.behind = Behind::Everything),
            Some(changed) => {
                for host in slots.iter().filter_map(|slot| self.index.host_at(slot)) {
                    let Some(known) = self.known.get_mut(host) else { continue };
                    known.behind = match known.behind {
                        Behind::Nothing => Behind::By(changed.clone()),
                        Behind::By(_) | Behind::Everything => Behind::Everything,
                    };
                }
            }
        }
        for one in withdrawn {
            for host in one.hosts.iter().filter_map(|slot| self.index.host_at(slot)) {
                if let Some(known) = self.known.get_mut(host) {
                    known.withdrawn.push(one.withdrawn.clone());
                }
            }
        }
        self.feeds.clone_from(&in_force.feeds);
        self.changed = true;
    }

    /// Judges by this catalogue?
    pub(crate) fn judges_by(&self, catalogue: &Arc<Catalogue>) -> bool {
        Arc::ptr_eq(self.index.catalogue(), catalogue)
    }

    /// Has the store what it would have after a look?
    pub(crate) fn is_settled(&self, host: &HostId, standing: &Standing) -> bool {
        self.known.get(host).is_some_and(|known| known.standing == *standing && known.is_settled())
    }

    /// Looks at a host as it last reported. `None`: the index does not know it as the store has it, so that it is to be taken
    /// in ([`Exposed::take_in`]).
    pub(crate) fn look(&self, view: &View<'_>, aim: &Aim<'_>) -> Result<Option<Look>, Problem> {
        let is_so = |known: &&Known| known.is_kept && known.standing == *aim.standing;
        let known = self.known.get(aim.host).filter(is_so);
        let Some(known) = known.filter(|_| self.index.exceptions_of(aim.host) == aim.accepted)
        else {
            return Ok(None);
        };
        let touched = Touched::nothing();
        self.compare(view, aim, known, &touched, known.withdrawn.clone(), None)
    }

    /// Takes in what a host reports, or what the store has of its last report. What comes of it is to be kept, and then
    /// [`Exposed::settle`]d.
    pub(crate) fn take_in(
        &mut self,
        view: &View<'_>,
        aim: &Aim<'_>,
        inventory: &Inventory,
    ) -> Result<Look, Problem> {
        (self.changed, self.taken) = (true, self.taken + 1);
        let is_so = |known: &Known| known.is_kept && known.standing.judged == aim.standing.judged;
        let known = self.known.remove(aim.host).filter(is_so);
        let mut stored = None;
        let mut previous: Vec<Finding> = Vec::new();
        if known.is_none() {
            self.index.remove_host(aim.host);
            let all = findings::of_host(view, aim.host)?;
            previous.extend(all.values().map(|record| record.finding.clone()));
            stored = Some(all);
        }
        let mut known = known.unwrap_or_else(|| Known {
            standing: *aim.standing,
            taken: 0,
            is_kept: false,
            rated: None,
            behind: Behind::Everything,
            withdrawn: Vec::new(),
        });
        (known.taken, known.is_kept) = (self.taken, false);
        let change = self.index.set_host(&HostView {
            host: aim.host,
            inventory,
            previous: &previous,
            ran_before: &BTreeMap::new(),
            accepted: aim.accepted,
        });
        let mut withdrawn = known.withdrawn.clone();
        withdrawn.extend(change.withdrawn);
        let look = self.compare(view, aim, &known, &change.touched, withdrawn, stored)?;
        let (by, taken) = (self.index.catalogue().clone(), known.taken);
        self.known.insert(aim.host.clone(), known);
        let (findings, before, withdrawn) = Default::default();
        // Invariant: the index knows a host that it has just been told of.
        Ok(look.unwrap_or(Look { by, taken, findings, before, withdrawn }))
    }

    /// Puts what the index says beside what the store has, where the two may differ. `stored`: all that the store has, where it
    /// was read already.
    fn compare(
        &self,
        view: &View<'_>,
        aim: &Aim<'_>,
        known: &Known,
        touched: &Touched,
        withdrawn: Vec<Withdrawn>,
        stored: Option<Stored>,
    ) -> Result<Option<Look>, Problem> {
        let all = aim.all
            || matches!(known.behind, Behind::Everything)
            || *touched == Touched::All
            || known.rated.as_deref() != aim.policy;
        let concern = match &known.behind {
            Behind::By(changed) => self.index.concern_of(aim.host, changed),
            Behind::Nothing | Behind::Everything => None,
        };
        let wanted = |source: &str| {
            all || touched.has(source) || concern.as_ref().is_some_and(|c| c.has(source))
        };
        let Some(mut findings) = self.index.findings_in(aim.host, wanted) else { return Ok(None) };
        let nothing = !all && touched.is_nothing() && concern.is_none();
        let before = match stored {
            Some(stored) => stored,
            None if nothing => Stored::new(),
            None if all => findings::of_host(view, aim.host)?,
            None => findings::of_host_in(view, aim.host, wanted)?,
        };
        for finding in &mut findings {
            self.keep_words(aim.host, finding, &before);
        }
        let (by, taken) = (self.index.catalogue().clone(), known.taken);
        Ok(Some(Look { by, taken, findings, before, withdrawn }))
    }

    /// Of a root that is not listed any more nobody may know which release it was: what vendors said then is kept.
    fn keep_words(&self, host: &HostId, finding: &mut Finding, before: &Stored) {
        let Some(root) = finding.root() else { return };
        if self.index.lists_root(host, root) || finding.ranking != Ranking::default() {
            return;
        }
        if let Some(known) = before.get(&(finding.id.clone(), finding.source.clone())) {
            let known = &known.finding;
            finding.urgency.clone_from(&known.urgency);
            finding.ranking.clone_from(&known.ranking);
            finding.offered = known.offered;
        }
    }

    /// The store has now what a look came to, and stands so. Where something else came into force meanwhile, or the host was
    /// taken in again, that counts.
    pub(crate) fn settle(&mut self, of: &Settled<'_>, standing: Standing) {
        if !self.judges_by(of.by) {
            return;
        }
        let Some(known) = self.known.get_mut(of.host).filter(|known| known.taken == of.taken)
        else {
            return;
        };
        let (taken, is_kept) = (of.taken, true);
        let rated = of.policy.map(str::to_owned);
        let (behind, withdrawn) = (Behind::Nothing, Vec::new());
        *known = Known { standing, taken, is_kept, rated, behind, withdrawn };
        self.changed = true;
    }

    /// Forgets all hosts but these.
    pub(crate) fn retain(&mut self, hosts: &[(HostId, Standing)]) {
        let there: BTreeSet<&HostId> = hosts.iter().map(|(id, _)| id).collect();
        let gone: Vec<HostId> =
            self.index.hosts().filter(|id| !there.contains(id)).cloned().collect();
        for host in gone {
            self.index.remove_host(&host);
            self.known.remove(&host);
        }
    }
}

/// What stands beside the index in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    /// Version of the program: another may judge otherwise.
    program: String,
    feeds: String,
    /// By host.
    hosts: Vec<Settlement>,
}

/// A host whose findings are in the store what they are in the index.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Settlement {
    host: HostId,
    inventory: Option<Digest>,
    judged: Option<i64>,
    policy: Option<String>,
}

const PROGRAM: &str = env!("CARGO_PKG_VERSION");

fn file(app: &App) -> PathBuf {
    app.options.data_dir.join(FILE)
}

/// Goes on with the index as it was last written down, where that can be: else with one that knows no host, and finds out.
pub(crate) fn read(app: &App) {
    let read = Exposed::read(&file(app), &app.in_force());
    *app.exposed_mut() = read;
}

impl Exposed {
    fn read(path: &Path, in_force: &InForce) -> Self {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Self::default(),
            Err(e) => {
                tracing::warn!("{} cannot be read, and is made anew: {e}", path.display());
                return Self::default();
            }
        };
        let begun = Instant::now();
        let unpacked = FleetIndex::unpack(&bytes, in_force.catalogue.clone());
        let found = unpacked.map_err(|why| why.to_string()).and_then(|(index, beside)| {
            let beside: Beside = serde_json::from_slice(&beside).map_err(|e| e.to_string())?;
            if beside.program != PROGRAM || beside.feeds != in_force.feeds {
                return Err("it is of other data, or another version of this program".to_owned());
            }
            Ok((index, beside))
        });
        match found {
            Err(why) => {
                tracing::info!("{} is not gone on with: {why}", path.display());
                Self::default()
            }
            Ok((index, beside)) => {
                let known = beside.hosts.into_iter().map(|settled| {
                    let Settlement { host, inventory, judged, policy: rated } = settled;
                    let standing = Standing { inventory, judged };
                    let (taken, is_kept) = (0, true);
                    let (behind, withdrawn) = (Behind::Nothing, Vec::new());
                    (host, Known { standing, taken, is_kept, rated, behind, withdrawn })
                });
                let known: HashMap<HostId, Known> = known.collect();
                let (hosts, took) = (known.len(), begun.elapsed());
                tracing::info!(hosts, ?took, "exposure as it was written down");
                Self { index, feeds: beside.feeds, known, taken: 0, changed: false }
            }
        }
    }

    /// As bytes: those hosts that are behind are not among what is known.
    fn pack(&self) -> Vec<u8> {
        let mut hosts: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| known.is_settled())
            .map(|(host, known)| Settlement {
                host: host.clone(),
                inventory: known.standing.inventory,
                judged: known.standing.judged,
                policy: known.rated.clone(),
            })
            .collect();
        hosts.sort();
        let beside = Beside { program: PROGRAM.to_owned(), feeds: self.feeds.clone(), hosts };
        // What cannot be written as JSON there is none of: texts and numbers.
        self.index.pack(&serde_json::to_vec(&beside).unwrap_or_default())
    }
}

/// Writes the index down where something has changed. Where that does not succeed, the next start makes it anew.
pub(crate) fn write(app: &App) {
    if !std::mem::take(&mut app.exposed_mut().changed) {
        return;
    }
    let packed = app.exposed().pack();
    let path = file(app);
    if let Err(e) = write_private(&path, &packed) {
        app.exposed_mut().changed = true;
        tracing::warn!("{} cannot be written: {e}", path.display());
    }
}
