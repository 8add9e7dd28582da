//! `fettle-agent scan` of files: what is told of feeds that are broken, old or packed, of files that are none, and of systems
//! that nobody looked at.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

const TRACKER: &str = r#"{"openssl":{"CVE-2024-1":{"releases":{"bookworm":{"status":"resolved",
    "repositories":{"bookworm":"3.0.11-1"},"fixed_version":"3.0.15-1","urgency":"medium"}}}}}"#;
const KEV: &str = r#"{"title":"t","catalogVersion":"x","dateReleased":"2020-01-02T00:00:00Z","vulnerabilities":[
    {"cveID":"CVE-2024-1","dateAdded":"2020-01-01","dueDate":"2020-02-01"}]}"#;
const STATUS: &str = "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\n\
    Version: 3.0.11-1\nDescription: x\n\n";

/// A directory of feeds, and files beside it.
struct Here(tempfile::TempDir);

impl Here {
    fn new() -> Self {
        let here = Self(tempfile::tempdir().unwrap());
        fs::create_dir(here.path("feeds")).unwrap();
        fs::set_permissions(here.path("feeds"), Permissions::from_mode(0o755)).unwrap();
        here.write("feeds/debian-tracker.json", TRACKER);
        here.write("status", STATUS);
        here
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs `scan` of the status file by these feeds, with more words.
    fn scan(&self, more: &[&str]) -> Output {
        let mut words =
            vec!["scan", "--status", "status", "--feeds", "feeds", "--release", "bookworm"];
        words.extend(more);
        self.run(&words)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fettle-agent"));
        command.args(words).current_dir(self.0.path()).output().unwrap()
    }
}

fn out(said: &Output) -> String {
    String::from_utf8(said.stdout.clone()).unwrap()
}

fn err(said: &Output) -> String {
    String::from_utf8(said.stderr.clone()).unwrap()
}

/// What it says of what cannot be done, with its exit code.
fn refused(said: &Output) -> String {
    assert_eq!(said.status.code(), Some(5), "{}{}", out(said), err(said));
    err(said)
}

#[test]
fn a_broken_ranking_feed_stops_no_scan_and_what_was_compiled_before_stays_in_use() {
    let here = Here::new();
    // Nothing compiled yet: it is done without.
    here.write("feeds/kev.json", &KEV[..KEV.len() / 2]);
    let said = here.scan(&[]);
    assert!(said.status.success() && out(&said).contains("CVE-2024-1"), "{}", err(&said));
    assert!(err(&said).contains("warning[feed-unusable]: kev.json: the KEV feed is cut off"));
    assert!(!out(&said).contains("known to be exploited"));
    assert!(refused(&here.run(&["feeds", "compile", "feeds"])).contains("kev.json"));

    here.write("feeds/kev.json", KEV);
    assert!(here.run(&["feeds", "compile", "feeds"]).status.success());
    here.write("feeds/kev.json", &KEV[..KEV.len() / 2]);
    let said = here.scan(&["-o", "json"]);
    assert!(said.status.success(), "{}", err(&said));
    let found: Value = serde_json::from_str(&out(&said)).unwrap();
    assert!(found[0]["ranking"]["kev"].is_object(), "the last good one: {found}");
    let told: Vec<Value> = err(&said).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let broken = told.iter().find(|p| p["code"] == "feed-unusable").unwrap();
    let message = broken["message"].as_str().unwrap();
    assert!(message.starts_with("kev.json: ") && message.contains("stays in use"), "{message}");
    assert!(broken["hint"].as_str().unwrap().contains("feeds/kev.json"), "{broken}");
    // It is told again the next time.
    assert!(err(&here.scan(&[])).contains("kev.json"));
    // Of who is affected likewise; and where nothing was compiled, that stops.
    here.write("feeds/debian-tracker.json", &TRACKER[..50]);
    assert!(here.scan(&[]).status.success());
    fs::remove_file(here.path("feeds/compiled.fettle")).unwrap();
    assert!(refused(&here.scan(&[])).contains("feeds/debian-tracker.json again"));
}

#[test]
fn packed_feeds_are_read_and_one_that_cannot_be_unpacked_is_named() {
    let here = Here::new();
    fs::remove_file(here.path("feeds/debian-tracker.json")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(TRACKER.as_bytes()).unwrap();
    here.write("feeds/debian-tracker.json.gz", gz.finish().unwrap());
    let kev = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/kev.json.zst");
    fs::copy(kev, here.path("feeds/kev.json.zst")).unwrap();
    let said = here.scan(&[]);
    assert!(said.status.success() && out(&said).contains("1 open"), "{}", err(&said));
    here.write("feeds/epss.csv.xz", b"\xfd7zXZ\0");
    let said = err(&here.scan(&[]));
    assert!(said.contains("epss.csv.xz: xz is not read"), "{said}");
}

#[test]
fn data_older_than_what_a_server_is_alarmed_at_is_told_by_its_own_day_and_by_its_files() {
    let here = Here::new();
    assert!(!err(&here.scan(&[])).contains("feeds-stale"));
    here.write("feeds/kev.json", KEV);
    for _ in 0..2 {
        // Parsed, then from the compiled file.
        let said = err(&here.scan(&[]));
        assert!(
            said.contains("warning[feeds-stale]") && said.contains("kev is of 2020-01-02"),
            "{said}"
        );
        assert!(!said.contains("debian-tracker is of"), "{said}");
    }
    let old = SystemTime::now() - Duration::from_secs(30 * 86_400);
    let tracker = File::options().write(true).open(here.path("feeds/debian-tracker.json")).unwrap();
    tracker.set_times(FileTimes::new().set_modified(old)).unwrap();
    assert!(err(&here.scan(&[])).contains("debian-tracker is of"));
    let sarif: Value = serde_json::from_str(&out(&here.scan(&["-o", "sarif"]))).unwrap();
    assert!(sarif["runs"][0]["invocations"][0].to_string().contains("kev is of 2020-01-02"));
}

#[test]
fn of_another_system_neither_offer_nor_use_is_told_and_no_patch_of_this_host() {
    let here = Here::new();
    let text = out(&here.scan(&[]));
    assert!(text.contains("1 open") && !text.contains("no source here offers it"), "{text}");
    assert!(
        !text.contains("fettle-agent rehearse") && text.contains("was not looked at"),
        "{text}"
    );
    let found: Value = serde_json::from_str(&out(&here.scan(&["-o", "json"]))).unwrap();
    assert!(
        found[0]["offered"].is_null()
            && found[0]["in_use"].is_null()
            && found[0]["exposed"].is_null()
    );
    assert_eq!(found[0]["not_looked_at"], serde_json::json!(["offered", "in_use", "exposed"]));
    let sarif: Value = serde_json::from_str(&out(&here.scan(&["-o", "sarif"]))).unwrap();
    let place = &sarif["runs"][0]["results"][0]["locations"][0];
    assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "status");
    let purl = place["logicalLocations"][0]["fullyQualifiedName"].as_str().unwrap();
    assert!(purl.contains("distro=debian-12"), "{purl}");
    // Debian's releases have numbers as well.
    let by_number =
        here.run(&["scan", "--status", "status", "--feeds", "feeds", "--release", "12"]);
    assert!(out(&by_number).contains("1 open"), "{}", err(&by_number));
    let other = here.run(&["scan", "--status", "status", "--feeds", "feeds", "--release", "woody"]);
    assert!(refused(&other).contains("--release bookworm"));
}

#[test]
fn what_is_no_status_file_or_not_a_whole_one_is_refused_by_what_it_is() {
    let here = Here::new();
    let of = |file: &str| refused(&here.run(&["scan", "--status", file, "--feeds", "feeds"]));
    for (file, bytes, told) in [
        ("empty", &b""[..], "it is empty"),
        ("json", b"{\"bomFormat\":\"CycloneDX\"}", "--sbom"),
        ("zst", b"\x28\xb5\x2f\xfd....", "unpack it first"),
        ("binary", b"\x7fELF\x02\x01\0\0\n\0Package\0", "no record of a package"),
        (
            "index",
            b"Package: x\nVersion: 1\n\n",
            "none of its 1 records is of an installed package",
        ),
    ] {
        here.write(file, bytes);
        let said = of(file);
        assert!(said.contains("not a dpkg status file") && said.contains(told), "{file}: {said}");
    }
    assert!(of("/dev/null").contains("it is a device"));
    assert!(of("/dev/zero").contains("it is a device"));
    let two = format!("{STATUS}{}", STATUS.replace("libssl3", "openssl"));
    for end in [two.len() - 2, two.len() - 20] {
        here.write("cut", &two[..end]);
        assert!(of("cut").contains("it ends within a line of the record of openssl"), "{end}");
    }
    // Whole, as other tools than dpkg write it, or cut there: nobody knows, and it is said.
    here.write("status", &two[..two.len() - 1]);
    let said = out(&here.scan(&["-o", "cyclonedx"]));
    assert!(said.contains("no empty line ends the last record, of openssl"), "{said}");
    let sbom = refused(&here.run(&["scan", "--sbom", "/dev/zero", "--feeds", "feeds"]));
    assert!(sbom.contains("it is a device"), "{sbom}");
}

#[test]
fn names_that_no_package_can_have_are_counted_and_go_nowhere() {
    let here = Here::new();
    let mut status = STATUS.to_owned();
    for name in ["a\u{1b}[2Jb".to_owned(), "x".repeat(10 << 20)] {
        status += &STATUS.replace("libssl3", &name);
    }
    here.write("status", status);
    for more in [&[][..], &["-o", "cyclonedx"]] {
        let text = out(&here.scan(more));
        assert!(text.len() < 100_000 && !text.contains('\u{1b}'), "{}", text.len());
        assert!(text.contains("2 records whose names or versions no package can have"), "{text}");
    }
}

#[test]
fn errors_name_the_directory_and_the_formats() {
    let here = Here::new();
    let said =
        here.run(&["scan", "--status", "status", "--feeds", "/nope", "--release", "bookworm"]);
    assert!(refused(&said).contains("/nope: there is no such directory"));
    let said = here.scan(&["-o", "xml"]);
    assert!(
        err(&said).contains("-o takes text, json, sarif or cyclonedx, not `xml`"),
        "{}",
        err(&said)
    );
    here.write("feeds/osv-almalinux.jsonl", KEV);
    assert!(refused(&here.scan(&[])).contains("not this format: it looks like CISA's list"));
}

#[test]
fn what_cannot_be_printed_is_an_error_and_a_reader_that_went_away_is_none() {
    let here = Here::new();
    let scan = |stdout: std::process::Stdio| {
        let words = ["scan", "--status", "status", "--feeds", "feeds", "--release", "bookworm"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_fettle-agent"));
        command.args(words).current_dir(here.0.path()).stdout(stdout).status().unwrap()
    };
    let full = File::options().write(true).open(Path::new("/dev/full")).unwrap();
    assert_eq!(scan(full.into()).code(), Some(9));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(scan(writer.into()).code(), Some(0));
}
