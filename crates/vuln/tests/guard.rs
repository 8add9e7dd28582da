//! What of real data is sudden, and what is not: the snapshot of the repository, as vendors and as others change it.
//!
//! `../shared/data` (data beside the checkout) has two days of EPSS, half a year apart; without it that test is skipped.

// The lint spares tests, not the functions they share.
#![allow(clippy::unwrap_used)]

mod support;

use fettle_vuln::exposure::{Catalogue, Sudden};
use fettle_vuln::feed::Feed;
use fettle_vuln::snapshot::{Feeds, load};
use std::collections::BTreeMap;
use std::path::Path;
use support::{shared, snapshot, unzstd};

/// The feeds of the repository's snapshot.
struct Set(BTreeMap<Feed, Vec<u8>>);

impl Set {
    fn bundled() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
        let files = snapshot().0.file;
        Self(files.iter().map(|f| (f.feed, unzstd(&directory.join(&f.name)))).collect())
    }

    /// The same of one release and without the kernel, which is most of it; nothing dates it.
    fn small() -> Self {
        let mut set = Self::bundled();
        set.0.remove(&Feed::DebianAdvisories);
        let mut all: serde_json::Value =
            serde_json::from_str(set.text(Feed::DebianTracker)).unwrap();
        let sources = all.as_object_mut().unwrap();
        sources.retain(|source, _| {
            !["linux", "chromium", "thunderbird", "firefox-esr"].contains(&source.as_str())
        });
        for id in sources.values_mut().flat_map(|s| s.as_object_mut().unwrap().values_mut()) {
            id["releases"].as_object_mut().unwrap().retain(|release, _| release == "bookworm");
        }
        set.0.insert(Feed::DebianTracker, all.to_string().into_bytes());
        set
    }

    fn catalogue(&self) -> Catalogue {
        let bytes = self.0.iter().map(|(feed, bytes)| (*feed, bytes.as_slice())).collect();
        load(&Feeds { bytes, as_of: BTreeMap::new() }).unwrap().catalogue
    }

    /// What comes of another text in place of one of them.
    fn with(&self, feed: Feed, text: String) -> Catalogue {
        let mut other = Self(self.0.clone());
        other.0.insert(feed, text.into_bytes());
        other.catalogue()
    }

    fn text(&self, feed: Feed) -> &str {
        std::str::from_utf8(&self.0[&feed]).unwrap()
    }

    /// The tracker with what it says of each source, vulnerability and release changed.
    fn tracker(
        &self,
        change: impl Fn(&str, &str, &str, &mut serde_json::Map<String, serde_json::Value>),
    ) -> Catalogue {
        let mut all: serde_json::Value =
            serde_json::from_str(self.text(Feed::DebianTracker)).unwrap();
        for (source, of_source) in all.as_object_mut().unwrap() {
            for (id, of_id) in of_source.as_object_mut().unwrap() {
                for (release, said) in of_id["releases"].as_object_mut().unwrap() {
                    change(source, id, release, said.as_object_mut().unwrap());
                }
            }
        }
        self.with(Feed::DebianTracker, all.to_string())
    }
}

fn told(before: &Catalogue, after: &Catalogue) -> Vec<String> {
    before.sudden_changes(after).iter().map(ToString::to_string).collect()
}

#[test]
fn what_debian_fixed_in_a_month_and_the_same_feeds_again_are_not_sudden() {
    let set = Set::bundled();
    let now = set.catalogue();
    assert_eq!(now.sudden_changes(&now), []);
    let since: jiff::civil::Date = "2026-10-21".parse().unwrap();
    let mut news = 0;
    for release in now.releases().map(str::to_owned).collect::<Vec<_>>() {
        let is_new = |s: &&fettle_vuln::exposure::Statement| {
            s.publication.as_ref().is_some_and(|p| p.date >= since)
        };
        news += now.statements_of(&release).iter().filter(is_new).count();
    }
    assert!(news > 100, "{news}");
    let before = set.tracker(|source, id, release, said| {
        let statement = now.statement(release, source, id);
        let date = statement.and_then(|s| s.publication.as_ref()).map(|p| p.date);
        if date.is_some_and(|date| date >= since) {
            said.remove("fixed_version");
            said.insert("status".into(), "open".into());
        }
    });
    assert_eq!(before.sudden_changes(&now), []);
}

#[test]
fn a_tracker_that_clears_five_packages_that_are_everywhere_is_sudden() {
    let set = Set::small();
    let before = set.catalogue();
    for version in ["0", "0.0.1"] {
        let cleared = set.tracker(|source, _, _, said| {
            let everywhere = ["openssl", "openssh", "sudo", "glibc", "systemd"];
            if everywhere.contains(&source) && said.contains_key("fixed_version") {
                said.insert("fixed_version".into(), version.into());
            }
        });
        let sudden = before.sudden_changes(&cleared);
        assert!(sudden.iter().all(|s| s.code() == "feed-cleared"), "{sudden:?}");
        let said = told(&before, &cleared);
        let of_bookworm = said.iter().find(|s| s.starts_with("of bookworm")).unwrap();
        for package in
            ["openssl (204 of ", "glibc (99 of ", "openssh (47 of ", "sudo (17 of 17 statements)"]
        {
            assert!(of_bookworm.contains(package), "{package}: {of_bookworm}");
        }
        assert!(sudden[0].is_by(Feed::DebianTracker) && !sudden[0].is_by(Feed::Kev));
    }
    let gone = set.text(Feed::DebianTracker).replacen("\"openssl\":", "\"openssl-of-old\":", 1);
    let said = told(&before, &set.with(Feed::DebianTracker, gone));
    assert!(said.iter().any(|s| s.contains("openssl (205 of 205 statements)")), "{said:?}");
}

#[test]
fn a_tracker_that_calls_everything_high_or_unimportant_is_sudden() {
    let set = Set::small();
    let before = set.catalogue();
    for (word, way) in [("high", "raises"), ("unimportant", "lowers")] {
        let after = set.tracker(|_, _, _, said| {
            said.insert("urgency".into(), word.into());
        });
        let said = told(&before, &after);
        let of_bookworm = said.iter().find(|s| s.starts_with("of bookworm")).unwrap();
        assert!(of_bookworm.contains(&format!("it {way} the severity of ")), "{of_bookworm}");
        assert!(of_bookworm.contains(&format!("not yet assigned → {word}")), "{of_bookworm}");
    }
    // One source in ten.
    let some = set.tracker(|source, _, _, said| {
        if source.starts_with('p') {
            said.insert("urgency".into(), "high".into());
        }
    });
    assert_eq!(before.sudden_changes(&some), []);
}

#[test]
fn scores_that_are_all_the_highest_are_sudden_and_those_of_a_feed_that_is_new_as_well() {
    let set = Set::small();
    let before = set.catalogue();
    let highest: String = set
        .text(Feed::Cvss)
        .lines()
        .map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["vector"] = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H".into();
            record["score"] = 10.0.into();
            format!("{record}\n")
        })
        .collect();
    let after = set.with(Feed::Cvss, highest);
    let sudden = before.sudden_changes(&after);
    let [scores @ Sudden::Scores { raised: true, .. }, maximum @ Sudden::Maximum { .. }] =
        &sudden[..]
    else {
        panic!("{sudden:?}")
    };
    assert!(scores.is_by(Feed::Cvss) && !scores.is_of_a_first() && maximum.is_of_a_first());
    assert!(scores.to_string().contains(" → 10.0)"), "{scores}");
    let mut without = Set(set.0.clone());
    without.0.remove(&Feed::Cvss);
    let without = without.catalogue();
    assert_eq!(without.sudden_changes(&before), []);
    assert!(matches!(without.sudden_changes(&after)[..], [Sudden::Maximum { .. }]));
}

#[test]
fn a_list_of_what_is_exploited_that_grows_by_all_or_loses_most_is_sudden() {
    let set = Set::small();
    let before = set.catalogue();
    let kev: serde_json::Value = serde_json::from_str(set.text(Feed::Kev)).unwrap();
    let with = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut kev = kev.clone();
        change(kev["vulnerabilities"].as_array_mut().unwrap());
        kev.as_object_mut().unwrap().remove("count");
        set.with(Feed::Kev, kev.to_string())
    };
    let ids: std::collections::BTreeSet<&str> =
        before.statements_of("bookworm").iter().map(|s| s.id.as_ref()).collect();
    // As many as there were, of other software: no count tells.
    let others = with(&|list| {
        for (entry, id) in list.iter_mut().zip(&ids) {
            entry["cveID"] = (*id).into();
        }
    });
    let sudden = before.sudden_changes(&others);
    assert!(matches!(sudden[..], [Sudden::Exploited { .. }]), "{sudden:?}");
    assert!(sudden[0].is_by(Feed::Kev) && sudden[0].to_string().contains("new are CVE-"));
    let few = with(&|list| list.retain(|entry| !ids.contains(entry["cveID"].as_str().unwrap())));
    let said = told(&before, &few);
    assert!(said.iter().any(|s| s.contains("gone are CVE-")), "{said:?}");
    let month = with(&|list| {
        for (n, id) in ids.iter().take(20).enumerate() {
            let mut entry = list[n].clone();
            entry["cveID"] = (*id).into();
            list.push(entry);
        }
    });
    assert_eq!(before.sudden_changes(&month), []);
}

#[test]
fn probabilities_that_are_all_one_or_nothing_are_sudden_and_half_a_year_of_them_is_not() {
    let set = Set::small();
    let before = set.catalogue();
    for (probability, way) in [("0.99", "raises"), ("0.00001", "makes")] {
        let text: Vec<String> = set
            .text(Feed::Epss)
            .lines()
            .map(|line| match line.split(',').collect::<Vec<_>>()[..] {
                [id, _, percentile] if id.starts_with("CVE") => {
                    format!("{id},{probability},{percentile}")
                }
                _ => line.to_owned(),
            })
            .collect();
        let sudden = before.sudden_changes(&set.with(Feed::Epss, text.join("\n") + "\n"));
        assert!(matches!(sudden[..], [Sudden::Probabilities { .. }]), "{sudden:?}");
        assert!(sudden[0].to_string().contains(way) && sudden[0].is_by(Feed::Epss), "{sudden:?}");
    }
    let (Some(older), Some(newer)) = (
        shared("epss/epss_scores-2026-02-22.csv.zst"),
        shared("epss/epss_scores-2026-08-16.csv.zst"),
    ) else {
        return;
    };
    let of = |path: &Path| set.with(Feed::Epss, String::from_utf8(unzstd(path)).unwrap());
    let (older, newer) = (of(&older), of(&newer));
    assert_eq!(older.sudden_changes(&newer), []);
    assert_eq!(newer.sudden_changes(&older), []);
}
