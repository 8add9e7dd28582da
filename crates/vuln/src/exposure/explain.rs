//! Why a finding is one: the vendor's record, the versions compared, what runs, how bad, and what would fix it.

use super::catalogue::{Catalogue, Statement};
use super::facts::is_kernel_image;
use super::own::covers_all;
use super::pockets;
use super::vendor::{Rules, Subjects, publisher_of, release_name};
use super::{MEMORY_GAPS, is_packages_alone};
use crate::feed::debian_list::{self, List};
use crate::feed::dsa::CHANGELOG;
use crate::feed::oval::{self, OvalVendor};
use crate::feed::updateinfo::{self, RpmVendor};
use crate::feed::vex::VexStatement;
use crate::feed::{Feed, csaf, debian, secdb};
use fettle_core::advisory::{AdvisoryStatus, VersionRange};
use fettle_core::finding::{Finding, FindingState};
use fettle_core::inventory::{Inventory, StaleProcess};
use fettle_core::language::{Ecosystem, LanguagePackage};
use fettle_core::root::{self, Root};
use fettle_core::version::Scheme;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// A finding explained, for CLI, API and web alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// One sentence: what, where, how it stands.
    pub headline: String,
    /// The reasons, in the order they are best read.
    pub reasons: Vec<Reason>,
}

/// One line of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it is about.
    pub topic: Topic,
    /// A sentence or two.
    pub text: String,
}

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// What the vendor says, where and since when.
    Vendor,
    /// Which versions were compared, and how.
    Versions,
    /// What of it runs.
    Running,
    /// What KEV, EPSS and CVSS say.
    Ranking,
    /// What one's own statements (VEX) say.
    Statement,
    /// What would fix it, and whether it can be had.
    Remedy,
}

impl Topic {
    /// The word, as CLI, API and web print it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Versions => "versions",
            Self::Running => "running",
            Self::Ranking => "ranking",
            Self::Statement => "statement",
            Self::Remedy => "remedy",
        }
    }
}

impl Catalogue {
    /// Explains a finding of a host with this inventory, of which no more is known than its identity.
    pub fn explain(&self, finding: &Finding, inventory: &Inventory) -> Explanation {
        self.explain_named(finding, &[finding.host.as_str()], inventory)
    }

    /// Explains a finding of a host with this inventory, which one's own statements may call by any of these names.
    pub fn explain_named(
        &self,
        finding: &Finding,
        names: &[&str],
        inventory: &Inventory,
    ) -> Explanation {
        if let Some(id) = finding.root() {
            return self.explain_in_root(finding, id, names, inventory);
        }
        let release = release_name(&inventory.os);
        let release = release.as_str();
        let statement = self.statement(release, &finding.source, &finding.id);
        let mut reasons = Vec::new();
        let mut add = |topic: Topic, text: String| reasons.push(Reason { topic, text });

        add(Topic::Vendor, self.vendor(statement, finding, release));
        for text in versions(finding, inventory) {
            add(Topic::Versions, text);
        }
        for text in running(finding, inventory) {
            add(Topic::Running, text);
        }
        for text in self.ranking_lines(finding) {
            add(Topic::Ranking, text);
        }
        for text in self.own_lines(finding, names, inventory) {
            add(Topic::Statement, text);
        }
        add(Topic::Remedy, remedy(finding, inventory, statement));
        let headline = format!(
            "{} in {} {} is {} ({})",
            finding.id,
            finding.source,
            finding.installed,
            finding.state.word(),
            finding.severity().word()
        );
        Explanation { headline, reasons }
    }

    /// Explains a finding in a root on the host, as of a host of its own, and says what is different there.
    fn explain_in_root(
        &self,
        finding: &Finding,
        id: &str,
        names: &[&str],
        inventory: &Inventory,
    ) -> Explanation {
        let root = inventory.root(id);
        let called = root.map_or_else(|| root::called(id, ""), Root::called);
        let plain = Finding { source: finding.package().to_owned(), ..finding.clone() };
        let names: Vec<&str> = names.iter().copied().chain([id]).collect();
        let within = root.map(Root::inventory).unwrap_or_default();
        let mut explained = self.explain_named(&plain, &names, &within);
        explained.headline = format!("{}, in {called}", explained.headline);
        let Some(root) = root else {
            explained.reasons.retain(|r| matches!(r.topic, Topic::Ranking));
            let text = format!("There is no {called} on the host any more.");
            explained.reasons.insert(0, Reason { topic: Topic::Running, text });
            return explained;
        };
        let system = if root.os.pretty.is_empty() { &root.os.id } else { &root.os.pretty };
        let runs = match root.running {
            true => "It runs; what of it is in use was not looked at",
            false => "It does not run",
        };
        let place = match root.location.as_str() {
            "" => String::new(),
            place => format!(" at {place}"),
        };
        let text =
            format!("In {called}{place} ({system}), not in the host's own packages. {runs}.");
        let is_running = |r: &Reason| r.topic == Topic::Running;
        let at = explained.reasons.iter().position(is_running).unwrap_or_default();
        explained.reasons.retain(|r| !is_running(r));
        explained.reasons.insert(at, Reason { topic: Topic::Running, text });
        let mends = match (finding.state, &finding.fixed_version) {
            (FindingState::Open | FindingState::Accepted, Some(fixed)) => format!(
                "No plan of the host reaches into it: {}, with {} {fixed} or newer.",
                root.kind.remedy(),
                finding.package()
            ),
            (FindingState::PendingRestart, _) => {
                format!("The fix is on disk there: start {called} anew.")
            }
            _ => return explained,
        };
        explained.reasons.retain(|r| r.topic != Topic::Remedy);
        explained.reasons.push(Reason { topic: Topic::Remedy, text: mends });
        explained
    }

    fn dated(&self, feed: Feed) -> String {
        self.as_of().get(&feed).map(|d| format!(", as of {d}")).unwrap_or_default()
    }

    fn vendor(&self, statement: Option<&Statement>, finding: &Finding, release: &str) -> String {
        let Some(statement) = statement else {
            return format!(
                "The vendor's data at hand says nothing about {} in {} any more.",
                finding.id, finding.source
            );
        };
        let says = match &statement.status {
            AdvisoryStatus::Fixed { version } => {
                format!("{} is fixed in {release} from {version} on", statement.source)
            }
            AdvisoryStatus::Open { reason, elsewhere } => format!(
                "{} is affected in {release} and there is no fix{}{}",
                statement.source,
                no_fix_reason(reason),
                elsewhere.as_ref().map_or(String::new(), |version| format!(
                    "; outside {release} it is fixed from {version} on"
                ))
            ),
            AdvisoryStatus::Ranges { ranges } => {
                format!("{} is affected {}", statement.source, listed(ranges))
            }
            AdvisoryStatus::NotAffected => {
                format!("{} was never affected in {release}", statement.source)
            }
            AdvisoryStatus::Undetermined => {
                format!("it is not decided whether {} is affected in {release}", statement.source)
            }
        };
        let urgency = match statement.urgency.as_ref() {
            "" | "not yet assigned" => String::new(),
            "unimportant" => " It calls the matter unimportant.".to_owned(),
            word => format!(" Its urgency: {word}."),
        };
        let tracker =
            [debian::EVIDENCE, debian_list::EVIDENCE].contains(&statement.evidence.as_ref());
        let published = match &statement.publication {
            Some(p) if p.advisory.as_ref() == CHANGELOG => {
                format!(" No advisory names it; the changelog dates the fixed version {}.", p.date)
            }
            Some(p) => format!(" The fix came out as {} on {}.", p.advisory, p.date),
            None if tracker && statement.fixed_version().is_some() => {
                " No advisory names it: it came with a point release or an ordinary update."
                    .to_owned()
            }
            None => String::new(),
        };
        let dated = feed_of(statement).map_or(String::new(), |feed| self.dated(feed));
        format!("{}{dated}: {says}.{urgency}{published}", statement.evidence)
    }

    /// One line for each of one's own statements about this finding, newest first.
    fn own_lines(&self, finding: &Finding, names: &[&str], inventory: &Inventory) -> Vec<String> {
        let about = self.own_about(&finding.id, &finding.source, names, inventory);
        let line = |(at, (said, covered)): (usize, &(&VexStatement, BTreeSet<String>))| {
            let VexStatement { author, document, issued, .. } = said;
            let because = [said.justification.as_str(), said.words.as_str()];
            let because: Vec<&str> = because.into_iter().filter(|b| !b.is_empty()).collect();
            let because = match because.join("; ") {
                none if none.is_empty() => String::new(),
                why => format!(" ({})", why.trim_end_matches('.')),
            };
            let until = said.expires.map_or(String::new(), |e| format!(", until {e}"));
            let ruled_out = finding.state == FindingState::NotAffected;
            let effect = match said.status.rules_out() {
                _ if at > 0 => " A later one counts.",
                true if ruled_out || !finding.state.is_vulnerable() => "",
                true if !covers_all(&finding.binaries, covered) => {
                    " It does not cover every installed package of this source, and changes nothing."
                }
                true => " It does not hold any more, and changes nothing.",
                false => " The finding stays as it is.",
            };
            format!(
                "{author} stated on {issued} in {document}: {}{because}{until}.{effect}",
                said.status.word()
            )
        };
        about.iter().rev().enumerate().map(line).collect()
    }

    fn ranking_lines(&self, finding: &Finding) -> Vec<String> {
        let ranking = &finding.ranking;
        let mut lines = Vec::new();
        if let Some(kev) = &ranking.kev {
            lines.push(format!(
                "Known to be exploited{}: on CISA's KEV list since {}, due there by {}{}.",
                if kev.ransomware { ", by ransomware too" } else { "" },
                kev.date_added,
                kev.due_date,
                self.dated(Feed::Kev)
            ));
        }
        if let Some(epss) = ranking.epss {
            let percent = f64::from(epss) * 100.0;
            lines.push(format!(
                "EPSS (FIRST{}): {percent:.2} % chance of exploitation within 30 days.",
                self.dated(Feed::Epss)
            ));
        }
        if let Some(ssvc) = self.ssvc(&finding.id) {
            lines.push(format!(
                "SSVC (CISA{}): exploitation {}, automatable {}, technical impact {}.",
                self.dated(Feed::CveRecords),
                ssvc.exploitation.word(),
                if ssvc.automatable { "yes" } else { "no" },
                if ssvc.total { "total" } else { "partial" }
            ));
        }
        match self.cvss(&finding.id) {
            Some(c) => {
                let apart = if (c.score - c.computed).abs() >= 0.05 {
                    format!(" By its own vector it would be {:.1}.", c.computed)
                } else {
                    String::new()
                };
                let by = if c.issuer.is_empty() { "an unnamed issuer" } else { &c.issuer };
                lines.push(format!(
                    "CVSS {}.{}: {:.1}, issued by {by} ({}).{apart}",
                    c.version / 10,
                    c.version % 10,
                    c.score,
                    c.vector
                ));
            }
            None => lines.push(
                "No CVSS score at hand: taken as medium unless the vendor or KEV says otherwise."
                    .to_owned(),
            ),
        }
        lines
    }
}

/// The feed that a statement was read from.
fn feed_of(statement: &Statement) -> Option<Feed> {
    let evidence = statement.evidence.as_ref();
    let vendor = statement.release.split(':').next().unwrap_or_default();
    match evidence.split(' ').next().unwrap_or_default() {
        _ if evidence == debian::EVIDENCE => Some(Feed::DebianTracker),
        _ if evidence == debian_list::EVIDENCE => Some(Feed::DebianList(List::Cve)),
        _ if evidence == secdb::EVIDENCE => Some(Feed::AlpineSecdb),
        _ if evidence.starts_with(csaf::redhat::EVIDENCE) => Some(Feed::RedHatCsaf),
        oval::EVIDENCE => OvalVendor::of_release(&statement.release).map(Feed::Oval),
        updateinfo::EVIDENCE => {
            RpmVendor::ALL.into_iter().find(|v| v.os() == vendor).map(Feed::UpdateInfo)
        }
        _ => publisher_of(&statement.release).map(Feed::Osv),
    }
}

fn no_fix_reason(reason: &str) -> String {
    let (word, why) = reason.split_once(' ').unwrap_or((reason, ""));
    let meaning = match word {
        "" => return " yet".to_owned(),
        "<end-of-life>" => "the package is no longer supported: none will come",
        "<ignored>" => "it will not be fixed in this release",
        "<postponed>" => "postponed to a later update",
        "<no-dsa>" => "no advisory planned: a point release may bring it",
        pockets::PRO => "the fix is for hosts attached to Ubuntu Pro",
        pockets::LTSS => "the fix is for hosts with SUSE's long-term support",
        pockets::ELS => "the fix is for hosts with Red Hat's extended support",
        _ => return format!(" ({reason})"),
    };
    if why.is_empty() {
        format!(" ({word}: {meaning})")
    } else {
        format!(" ({word}: {meaning}; {why})")
    }
}

/// The ranges that are affected, the first ones of many.
fn listed(ranges: &[VersionRange]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = ranges.len().saturating_sub(SHOWN);
    let more =
        if more > 0 { format!(", and {more} more ranges or versions") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The packages of a language that a finding is about.
fn of_language<'a>(
    finding: &'a Finding,
    inventory: &'a Inventory,
) -> impl Iterator<Item = &'a LanguagePackage> {
    let is_its = |p: &&LanguagePackage| {
        finding.binaries.contains(&p.location) && p.subject() == finding.source
    };
    inventory.languages.iter().filter(is_its)
}

/// Which versions of a package of a language are where.
fn language_versions(
    ecosystem: Ecosystem,
    finding: &Finding,
    inventory: &Inventory,
) -> Vec<String> {
    const SHOWN: usize = 6;
    let mut its: Vec<&LanguagePackage> = of_language(finding, inventory).collect();
    its.sort_by_cached_key(|p| ecosystem.scheme().key(&p.version));
    let places: Vec<String> =
        its.iter().map(|p| format!("{} in {}", p.version, p.location)).collect();
    let more = places.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let mut lines = Vec::new();
    if places.is_empty() {
        lines.push(format!(
            "No affected version of this {ecosystem} package is installed any more."
        ));
    } else {
        lines.push(format!(
            "Installed: {}{more}. No package of the distribution owns it, so its own version counts.",
            places[..places.len().min(SHOWN)].join(", ")
        ));
    }
    lines.push(match &finding.fixed_version {
        Some(fixed) => {
            format!("In {}'s order the next version without it is {fixed}.", ecosystem.scheme())
        }
        None => "No version without it is named.".to_owned(),
    });
    lines
}

fn versions(finding: &Finding, inventory: &Inventory) -> Vec<String> {
    if let Some((ecosystem, _)) = Ecosystem::of_subject(&finding.source) {
        return language_versions(ecosystem, finding, inventory);
    }
    let rules = Rules::of(&inventory.os);
    let mut lines = Vec::new();
    let kernel = finding.binaries.first().filter(|b| is_kernel_image(b));
    if let Some(image) = kernel {
        lines.push(format!(
            "The running kernel {image} was judged, not the installed ones: it is {} {}.",
            finding.source, finding.installed
        ));
    }
    let names: Vec<&str> =
        finding.binaries.iter().filter(|b| Some(*b) != kernel).map(String::as_str).collect();
    if !names.is_empty() {
        let shown = names.iter().take(6).copied().collect::<Vec<_>>().join(", ");
        let more =
            if names.len() > 6 { format!(" and {} more", names.len() - 6) } else { String::new() };
        lines.push(match rules.kind(&finding.source) {
            Subjects::Sources => format!(
                "{shown}{more}: built from source package {}{}; the source's version is what counts, not the binary's.",
                finding.source,
                if kernel.is_some() { String::new() } else { format!(" {}", finding.installed) }
            ),
            Subjects::Binaries => format!(
                "{shown} {}: the vendor's statement is about this very package.",
                finding.installed
            ),
        });
    }
    let signed = inventory.packages.iter().find(|p| {
        finding.binaries.contains(&p.name)
            && rules.scheme == Scheme::Deb
            && rules.subject(p).0 != p.source.as_str()
    });
    if let Some(p) = signed {
        lines.push(format!(
            "{} {} is the signed form of {} {}.",
            p.source,
            p.source_version,
            finding.source,
            rules.subject(p).1
        ));
    }
    match &finding.fixed_version {
        Some(_) if finding.installed.is_empty() => {
            lines.push("No package of that source is installed any more.".to_owned())
        }
        Some(fixed) => {
            let relation = match rules.scheme.compare_lenient(&finding.installed, fixed) {
                Ordering::Less => "is lower than",
                Ordering::Equal => "equals",
                Ordering::Greater => "is higher than",
            };
            lines.push(format!(
                "In {}'s order {} {relation} the fixed version {fixed}.",
                rules.scheme, finding.installed
            ));
        }
        None => lines.push(
            "There is no fixed version to compare with: every version in this release is affected."
                .to_owned(),
        ),
    }
    if finding.source.starts_with("linux") && kernel.is_none() && finding.state.is_vulnerable() {
        lines.push("No kernel code of this source runs here by these packages: they hold headers or tools.".to_owned());
    }
    lines
}

fn running(finding: &Finding, inventory: &Inventory) -> Vec<String> {
    let holds = |p: &&StaleProcess| p.packages.iter().any(|name| finding.binaries.contains(name));
    let stale: Vec<String> = inventory
        .stale
        .iter()
        .filter(holds)
        .take(5)
        .map(|p| {
            format!(
                "{} (pid {}{})",
                p.process,
                p.pid,
                if p.unit.is_empty() { String::new() } else { format!(", {}", p.unit) }
            )
        })
        .collect();
    let mut lines = Vec::new();
    if !stale.is_empty() && finding.state != FindingState::Fixed {
        lines.push(format!("Still mapping replaced files: {}.", stale.join(", ")));
    }
    let named = |list: &[String]| {
        let names: Vec<&str> =
            finding.binaries.iter().filter(|b| list.contains(b)).map(String::as_str).collect();
        names.join(", ")
    };
    let kernel_runs = finding.binaries.first().is_some_and(|b| is_kernel_image(b));
    let language = Ecosystem::of_subject(&finding.source).is_some();
    match finding.state {
        _ if is_packages_alone(inventory) => {
            lines.push("What runs was not looked at: only its packages are known.".to_owned());
        }
        _ if language && !finding.in_use => lines.push(
            "What runs does not show which packages of languages it has loaded: restart what may have it."
                .to_owned(),
        ),
        FindingState::Fixed => lines.push(if kernel_runs {
            "The running kernel is a fixed one.".to_owned()
        } else {
            "No process maps a replaced file of these packages.".to_owned()
        }),
        _ if kernel_runs => lines.push("In use: it is the kernel that runs.".to_owned()),
        _ if finding.exposed => lines.push(format!(
            "Exposed: a process that listens beyond loopback maps files of {}.",
            named(&inventory.exposed)
        )),
        _ if finding.in_use => lines
            .push(format!("In use: a running process maps files of {}.", named(&inventory.in_use))),
        _ => lines.push(
            "Not in use: no running process was seen to map a file of these packages.".to_owned(),
        ),
    }
    for gap in inventory.gaps.iter().filter(|g| MEMORY_GAPS.iter().any(|m| g.starts_with(m))) {
        lines.push(format!("The host could not look at all of its processes: {gap}."));
    }
    lines
}

/// What brings another version of a package of a language: its own installer, which no plan runs.
fn language_remedy(ecosystem: Ecosystem, name: &str, finding: &Finding) -> String {
    let fixed = finding.fixed_version.as_deref().unwrap_or_default();
    let how = match ecosystem {
        Ecosystem::Pypi => format!("`pip install '{name}>={fixed}'`"),
        Ecosystem::Npm => format!("`npm install --global {name}@{fixed}`, or what brings it along"),
        Ecosystem::Gem => {
            format!("`gem install {name} --version {fixed}`, then `gem cleanup {name}`")
        }
        Ecosystem::Cargo => format!("`cargo install {name} --version {fixed}`"),
        Ecosystem::Maven => format!("{name} {fixed}, by a newer release of what holds the archive"),
    };
    format!(
        "No plan brings it: it was not installed by the package manager. As it was installed: {how}."
    )
}

fn remedy(finding: &Finding, inventory: &Inventory, statement: Option<&Statement>) -> String {
    let rules = Rules::of(&inventory.os);
    let held: Vec<&str> = finding
        .binaries
        .iter()
        .filter(|b| inventory.held.contains(b))
        .map(String::as_str)
        .collect();
    let pinned: Vec<String> = finding
        .binaries
        .iter()
        .filter_map(|b| inventory.pinned.get(b).map(|pin| format!("{b} ({pin})")))
        .collect();
    let language = Ecosystem::of_subject(&finding.source);
    match finding.state {
        FindingState::Fixed if language.is_some() => {
            "It is gone on disk: restart what may have loaded it before.".to_owned()
        }
        FindingState::Fixed => "Nothing to do: proved gone, on disk and in memory.".to_owned(),
        FindingState::NotAffected => {
            "Nothing to do while your own statement holds; the fix comes with the ordinary updates."
                .to_owned()
        }
        FindingState::PendingRestart => {
            "The fix is on disk: restart what still maps the replaced files.".to_owned()
        }
        FindingState::PendingReboot => "A fixed kernel is installed: reboot into it.".to_owned(),
        FindingState::NoFixYet | FindingState::Accepted if finding.fixed_version.is_none() => {
            let lasting = statement.is_some_and(|s| s.urgency.as_ref() == "end-of-life");
            if lasting {
                "None will come from the vendor: remove the package, or move to a newer release."
                    .to_owned()
            } else {
                "No version to install exists in this release: reduce its use or exposure, or accept it with an expiry.".to_owned()
            }
        }
        _ if language.is_some() => language
            .map(|(ecosystem, name)| language_remedy(ecosystem, name, finding))
            .unwrap_or_default(),
        _ if is_packages_alone(inventory) => format!(
            "Version {} or newer of {} fixes it. Whether the system's sources offer it was not looked at.",
            finding.fixed_version.as_deref().unwrap_or("?"),
            finding.source
        ),
        _ if !held.is_empty() => format!(
            "The administrator holds {}: {} lets it be fixed.",
            held.join(", "),
            if rules.scheme == Scheme::Deb { "`apt-mark unhold`" } else { "unholding it" }
        ),
        _ if finding.offered => {
            let mut names: Vec<String> = inventory
                .upgrades
                .iter()
                .filter(|u| {
                    let package = inventory.package(&u.name);
                    package.is_some_and(|p| rules.is_subject(p, &finding.source))
                })
                .map(|u| format!("{} {}", u.name, u.to))
                .collect();
            names.dedup();
            let more = names.len().saturating_sub(4);
            names.truncate(4);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let then = if finding.binaries.first().is_some_and(|b| is_kernel_image(b)) {
                ", then reboot"
            } else {
                ""
            };
            format!("Offered by the host's own sources: install {}{more}{then}.", names.join(", "))
        }
        _ if !pinned.is_empty() => format!(
            "The administrator pins {}, and the host's sources offer no fixed version so: see /etc/apt/preferences and \
             /etc/apt/preferences.d.",
            pinned.join(", ")
        ),
        _ => format!(
            "Version {} is not offered by the host's own sources: a mirror that lags, a source (such as the security \
             suite) that is not configured, or a pin. Look with `{} {}`.",
            finding.fixed_version.as_deref().unwrap_or("?"),
            rules.look(),
            finding.binaries.first().map_or(finding.source.as_str(), String::as_str)
        ),
    }
}
