//! What the host's own settings say: pins, programs of its own, tools that change packages on their own, unsafe writing.

use crate::configuration_tests::executables;
use crate::packages::pins;
use crate::settings::Settings;
use crate::transaction::fault;
use crate::trusted::{self, Untrusted};
use fettle_core::Shared;
use fettle_core::assignment::{PackageChange, Probe};
use fettle_core::transaction::Fault;
use std::fs;
use std::path::{Path, PathBuf};

/// Units that change packages, or the lists of packages, without having been asked.
const OTHERS: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "unattended-upgrades.service",
    "packagekit.service",
    "cron-apt.timer",
    "dnf-automatic.timer",
];

/// Refuses when the administrator has pinned a package to another version, naming each; gives the other pins
/// that name a package, for people. Asking for an exact version would go over the pin without a word.
pub(super) fn pinned(
    settings: &Settings,
    changes: &[Shared<PackageChange>],
) -> Result<Vec<String>, Fault> {
    let (mut against, mut notes) = (Vec::new(), Vec::new());
    for pin in pins::read(settings) {
        for change in changes.iter().filter(|c| pin.names(&c.name)) {
            let says = format!("{} ({pin})", change.name);
            match pin.forbids(&change.to) {
                Some(true) => against.push(says),
                _ => notes.push(format!("pinned on this host: {says}")),
            }
        }
    }
    if against.is_empty() {
        return Ok(notes);
    }
    Err(fault(
        "package-pinned",
        format!("pinned to another version on this host: {}", against.join("; ")),
        "leave them out of the plan, or change /etc/apt/preferences and /etc/apt/preferences.d",
    ))
}

/// The host's own programs that the change will run as root: every test, the probes that the order names, the hooks.
/// One that is refused would neither hold nor fail, so the change is refused, before it begins.
///
/// # Errors
/// The first that others than root may have a hand in.
pub(super) fn programs(config: &Path, probes: &[Probe]) -> Result<(), Untrusted> {
    let named =
        |name: &str| probes.iter().any(|p| matches!(p, Probe::Command { name: n } if n == name));
    for list in ["tests.d", "probes.d", "hooks.d"] {
        trusted::directory(&config.join(list))?;
    }
    let tests = executables(&config.join("tests.d")).map(|(_, program)| program);
    let probes = executables(&config.join("probes.d")).filter(|(name, _)| named(name));
    let hooks = ["drain", "undrain"].map(|name| config.join("hooks.d").join(name));
    let hooks = hooks.into_iter().filter(|hook| hook.is_file());
    let mut all = tests.chain(probes.map(|(_, program)| program)).chain(hooks);
    all.try_for_each(|program| trusted::program(&program))
}

/// Updates that a killed dpkg has left unread: nothing may be changed before they are.
pub(super) fn interrupted(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(settings.host("/var/lib/dpkg/updates"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    names.sort();
    names
}

/// Where dpkg is told not to sync what it writes.
pub(super) fn unsafe_io(settings: &Settings) -> Vec<String> {
    pins::files(settings, "/etc/dpkg/dpkg.cfg", "/etc/dpkg/dpkg.cfg.d")
        .into_iter()
        .filter(|file| {
            fs::read_to_string(file).is_ok_and(|text| {
                text.lines().any(|l| l.trim().trim_start_matches("--") == "force-unsafe-io")
            })
        })
        .map(|file| {
            let shown = PathBuf::from("/").join(file.strip_prefix(&settings.root).unwrap_or(&file));
            format!(
                "{} sets force-unsafe-io: a power cut may lose files dpkg wrote",
                shown.display()
            )
        })
        .collect()
}

/// Whoever else changes packages here, by name.
pub(super) fn other_tools(active: impl Fn(&str) -> bool) -> Option<String> {
    let found: Vec<&str> = OTHERS.into_iter().filter(|unit| active(unit)).collect();
    (!found.is_empty()).then(|| {
        format!("active, and may change packages or lists on their own: {}", found.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_core::Digest;

    fn change(name: &str, to: &str) -> Shared<PackageChange> {
        PackageChange {
            name: name.into(),
            architecture: "amd64".into(),
            from: "1".into(),
            to: to.into(),
            sha256: Digest::of(b""),
            size: 1,
        }
        .into()
    }

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let settings = Settings { root: dir.path().to_owned(), ..Settings::default() };
        (dir, settings)
    }

    #[test]
    fn a_package_pinned_to_another_version_is_refused_by_name_and_other_pins_are_told() {
        let (_dir, settings) = host(&[
            (
                "etc/apt/preferences",
                "Package: *\nPin: release a=stable\nPin-Priority: 900\n\nPackage: nginx*\nPin: version 1.22.*\nPin-Priority: 1001\n",
            ),
            (
                "etc/apt/preferences.d/bad",
                "Package: openssl libssl3\nPin: version 3.0.99*\nPin-Priority: -1\n",
            ),
            (
                "etc/apt/preferences.d/own.pref",
                "package: curl\npin: release o=Acme\npin-priority: 990\n",
            ),
            (
                "etc/apt/preferences.d/old.disabled",
                "Package: vim\nPin: version 1\nPin-Priority: 1001\n",
            ),
        ]);
        let ok = [
            change("nginx-core", "1.22.1-9+deb12u2"),
            change("openssl", "3.0.17"),
            change("vim", "2"),
        ];
        let agreeing = pinned(&settings, &ok).unwrap();
        assert!(agreeing.len() == 2 && agreeing[0].contains("nginx-core"), "{agreeing:?}");
        assert_eq!(
            pinned(&settings, &[change("curl", "8")]),
            Ok(vec!["pinned on this host: curl (Pin: release o=Acme, priority 990)".into()])
        );
        let refused = pinned(
            &settings,
            &[change("nginx", "1.24"), change("libssl3", "3.0.99-1"), change("vim", "2")],
        );
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, "package-pinned");
        assert_eq!(
            refused.message,
            "pinned to another version on this host: nginx (Pin: version 1.22.*, priority 1001); \
             libssl3 (Pin: version 3.0.99*, priority -1)"
        );
    }

    #[test]
    fn a_change_whose_tests_probes_or_hooks_others_may_write_is_refused_before_it_begins() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &str, mode| {
            fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        for list in ["tests.d", "probes.d", "hooks.d"] {
            fs::create_dir(dir.path().join(list)).unwrap();
            mode(list, 0o755);
        }
        for path in
            ["tests.d/shop", "tests.d/README", "probes.d/web", "probes.d/old", "hooks.d/drain"]
        {
            fs::write(dir.path().join(path), "#!/bin/sh\n").unwrap();
            mode(path, 0o755);
        }
        let order = [Probe::Command { name: "web".into() }, Probe::Tcp { address: "x:1".into() }];
        mode("tests.d/README", 0o666);
        mode("probes.d/old", 0o777);
        assert_eq!(programs(dir.path(), &order), Ok(()), "nobody runs those two");
        for path in
            ["tests.d/shop", "tests.d", "probes.d/web", "probes.d", "hooks.d/drain", "hooks.d"]
        {
            mode(path, 0o775);
            let why = programs(dir.path(), &order).unwrap_err();
            assert_eq!(why.path, dir.path().join(path));
            let fault = super::super::untrusted(why);
            assert_eq!(fault.code, "program-untrusted");
            assert!(fault.message.contains("can be written by others"), "{}", fault.message);
            assert!(fault.hint.starts_with("chmod go-w "), "{}", fault.hint);
            mode(path, 0o755);
        }
        assert_eq!(programs(dir.path(), &order), Ok(()));
        assert_eq!(programs(&dir.path().join("nowhere"), &order), Ok(()));
    }

    #[test]
    fn unsafe_writing_is_told_with_the_file_that_says_so() {
        let (_dir, settings) = host(&[
            ("etc/dpkg/dpkg.cfg", "# force-unsafe-io\nno-debsig\n"),
            ("etc/dpkg/dpkg.cfg.d/speed", "force-unsafe-io\n"),
        ]);
        assert_eq!(
            unsafe_io(&settings),
            [
                "/etc/dpkg/dpkg.cfg.d/speed sets force-unsafe-io: a power cut may lose files dpkg wrote"
            ]
        );
    }

    #[test]
    fn what_a_killed_dpkg_left_unread_is_seen() {
        let (_dir, settings) =
            host(&[("var/lib/dpkg/updates/0003", ""), ("var/lib/dpkg/updates/tmp.i", "")]);
        assert_eq!(interrupted(&settings), ["0003"]);
        assert!(interrupted(&host(&[]).1).is_empty());
    }

    #[test]
    fn only_the_tools_that_are_active_are_named() {
        assert_eq!(other_tools(|_| false), None);
        let said = other_tools(|unit| unit.starts_with("apt-daily")).unwrap();
        assert!(said.ends_with(": apt-daily.timer, apt-daily-upgrade.timer"), "{said}");
    }
}
