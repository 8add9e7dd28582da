//! Fetching archives with apt: from the sources that this host has, and no others.

use super::apt::{Apt, file_error, measure};
use super::tool::{self, words};
use super::{PackagesError, names};
use fettle_core::Shared;
use fettle_core::assignment::PackageChange;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A line that is down is given so long to come back, before each further try: apt's own follow at once.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(20), Duration::from_secs(40)];

impl Apt {
    /// `apt-get download` into a directory.
    fn fetch(&self, names: &[String], directory: &Path) -> Result<(), PackagesError> {
        self.get("apt-get download", &["download"], names, directory)
    }

    /// Has apt-get fetch something. A failure holds every line of apt's that says what is wrong.
    fn get(
        &self,
        what: &str,
        how: &[&str],
        names: &[String],
        directory: &Path,
    ) -> Result<(), PackagesError> {
        let mut arguments = words(how);
        // Older ones try once only.
        for option in ["APT::Sandbox::User=root", "Acquire::Retries=3", "quiet=1"] {
            arguments.extend(words(&["-o", option]));
        }
        arguments.extend(self.caches.clone());
        arguments.push("--".to_owned());
        arguments.extend_from_slice(names);
        let output = tool::output("/usr/bin/apt-get", &arguments, directory)?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let wrong: Vec<&str> =
            text.lines().filter(|l| l.starts_with("E: ") || l.starts_with("Err:")).collect();
        Err(PackagesError::Failed {
            program: what.to_owned(),
            ending: crate::command::ending(output.status, false),
            said: if wrong.is_empty() { tool::said(&output) } else { wrong.join("\n") },
        })
    }

    /// Fetches these archives, and moves them to `directory` when all are there and right. What was fetched of them
    /// before is gone on from: apt asks for the rest only (RFC 9110, section 14), and the whole is what is verified.
    ///
    /// `apt-get download` always begins anew, `install --download-only` goes on, and leaves where they are the archives of
    /// sources on this very host: what it did not bring, the other does.
    pub(super) fn fetch_on(
        &self,
        wanted: &[&Shared<PackageChange>],
        directory: &Path,
    ) -> Result<(), PackagesError> {
        let aside = &self.fetching;
        let partial = aside.join("partial");
        fs::create_dir_all(&partial).map_err(file_error("make", &partial))?;
        let file = |c: &Shared<PackageChange>| names::archive_file(&c.name, &c.to, &c.architecture);
        let is_right = |c: &Shared<PackageChange>| {
            measure(&aside.join(file(c))).is_ok_and(|m| m == (c.sha256, c.size))
        };
        let missing = || {
            let missing = wanted.iter().filter(|change| !is_right(change));
            missing.map(|c| exact(&c.name, &c.architecture, &c.to)).collect::<Vec<_>>()
        };
        let rejected = |error: &PackagesError| {
            // A part of something else is never the beginning of the right one.
            if error.to_string().contains("mismatch") {
                let _ = fs::remove_dir_all(aside);
            }
        };
        let archives = format!("Dir::Cache::Archives={}/", aside.display());
        let install = [
            "install",
            "--download-only",
            "-y",
            "--no-remove",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "APT::Install-Recommends=false",
            "-o",
            &archives,
        ];
        let mut pauses = PAUSES.iter();
        loop {
            let names = missing();
            if names.is_empty() {
                break;
            }
            let how = "apt-get install --download-only";
            let Err(error) = self.get(how, &install, &names, aside) else { break };
            let said = error.to_string();
            if !said.contains("Failed to fetch") {
                break; // it would not install them so: the other way says why
            }
            match pauses.next().filter(|_| is_the_line(&said)) {
                Some(pause) => std::thread::sleep(*pause),
                None => {
                    rejected(&error);
                    return Err(error);
                }
            }
        }
        let names = missing();
        if !names.is_empty() {
            self.fetch(&names, aside).inspect_err(rejected)?;
        }
        for change in wanted {
            let (from, to) = (aside.join(file(change)), directory.join(file(change)));
            fs::rename(&from, &to).map_err(file_error("keep", &to))?;
        }
        // Not there, or not removed: nothing depends on it.
        let _ = fs::remove_dir_all(aside);
        Ok(())
    }

    /// Fetches what the sources still offer of `wanted` (`NAME:ARCH=VERSION`, file name). One call for all, and one
    /// more for each time that apt names versions it knows no source for: a call for each package would read the
    /// package lists anew each time. Gives apt's words for what is not offered.
    pub(super) fn fetch_offered(
        &self,
        wanted: &[(String, String)],
        directory: &Path,
    ) -> Result<String, PackagesError> {
        let aside = directory.join("fetch");
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir_all(&aside).map_err(file_error("make", &aside))?;
        let mut names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
        let mut said = Vec::new();
        while !names.is_empty() {
            let Err(error) = self.fetch(&names, &aside) else { break };
            let text = error.to_string();
            let before = names.len();
            names.retain(|name| !names_version(&text, name));
            said.push(text);
            if names.len() == before {
                break; // no word about a version: the sources cannot be reached
            }
        }
        for (_, file) in wanted {
            let fetched = aside.join(file);
            if fetched.exists() {
                let kept = directory.join(file);
                fs::rename(&fetched, &kept).map_err(file_error("keep", &kept))?;
            }
        }
        let _ = fs::remove_dir_all(&aside);
        Ok(said.join("; "))
    }
}

/// Do apt's words say that the line is down, and not that the source has something else or nothing?
fn is_the_line(said: &str) -> bool {
    const LINE: [&str; 9] = [
        "Temporary failure resolving",
        "Could not resolve",
        "Could not connect",
        "Cannot initiate the connection",
        "Unable to connect",
        "Connection failed",
        "Connection timed out",
        "Error reading from server",
        "Network is unreachable",
    ];
    // `URL  404  Not Found [IP: 40.0.2.1 80]`
    let final_word = |line: &str| line.contains("mismatch") || line.contains("  40");
    LINE.iter().any(|words| said.contains(words)) && !said.lines().any(final_word)
}

/// Does apt say that it has no source for this `NAME:ARCH=VERSION`? `E: Can't find a source to download version
/// 'V' of 'N:A'`, `E: Version 'V' for 'N' was not found`, each with the architecture where apt thinks it matters.
fn names_version(said: &str, wanted: &str) -> bool {
    let Some((package, version)) = wanted.split_once('=') else { return false };
    let name = package.split(':').next().unwrap_or(package);
    said.lines().filter_map(|line| line.split_once("ersion '")).any(|(_, rest)| {
        let mut quoted = rest.split('\'').step_by(2);
        quoted.next() == Some(version) && quoted.next().is_some_and(|p| p == package || p == name)
    })
}

/// `NAME:ARCH=VERSION`.
pub(super) fn exact(name: &str, architecture: &str, version: &str) -> String {
    format!("{name}:{architecture}={version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_no_source_has_are_known_by_what_apt_says() {
        let said = "E: Can't find a source to download version '3.0.15-1~deb12u1' of 'libssl3:amd64'\n\
                    E: Version '1.0' for 'acme-web' was not found\nE: Unable to fetch some archives";
        for (wanted, named) in [
            ("libssl3:amd64=3.0.15-1~deb12u1", true),
            ("libssl3:amd64=3.0.15-1", false),
            ("libssl:amd64=3.0.15-1~deb12u1", false),
            ("acme-web:all=1.0", true),
            ("acme-web:all=1.1", false),
        ] {
            assert_eq!(names_version(said, wanted), named, "{wanted}");
        }
    }

    #[test]
    fn only_a_line_that_is_down_is_worth_another_try() {
        for (why, again) in [
            ("Temporary failure resolving 'm.example'", true),
            (
                "Could not connect to m.example:80 (192.0.2.1). - connect (113: No route to host)",
                true,
            ),
            ("Error reading from server. Remote end closed connection [IP: 192.0.2.1 80]", true),
            ("Connection timed out [IP: 192.0.2.1 80]", true),
            ("Connection timed out [IP: 40.0.2.1 80]", true),
            ("404  Not Found [IP: 192.0.2.1 80]", false),
            ("Hash Sum mismatch", false),
            (
                "Connection timed out\nE: Failed to fetch http://m.example/b.deb  403  Forbidden",
                false,
            ),
            ("File not found", false),
        ] {
            let said = format!("E: Failed to fetch http://m.example/a.deb  {why}");
            assert_eq!(is_the_line(&said), again, "{said}");
        }
    }
}
