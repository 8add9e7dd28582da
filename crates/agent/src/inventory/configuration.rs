//! Digests of the configuration files that most often explain why two equal hosts behave differently.

use crate::settings::Settings;
use fettle_core::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Files, and directories whose files of the given suffix are watched (one level, no links followed out of it).
const WATCHED: &[(&str, &str)] = &[
    ("/etc/ssh/sshd_config", ""),
    ("/etc/ssh/sshd_config.d", ".conf"),
    ("/etc/nginx/nginx.conf", ""),
    ("/etc/nginx/conf.d", ".conf"),
    ("/etc/nginx/sites-enabled", ""),
    ("/etc/apt/sources.list", ""),
    ("/etc/apt/sources.list.d", ""),
    ("/etc/apt/preferences", ""),
    ("/etc/apt/preferences.d", ""),
    ("/etc/sudoers", ""),
    ("/etc/sudoers.d", ""),
    ("/etc/fettle/probes.d", ""),
    ("/etc/fettle/tests.d", ""),
];
/// A larger file is no configuration.
const LARGEST: u64 = 4 << 20;

/// Digests of what is there; what is there and cannot be read is a gap.
pub(super) fn digests(settings: &Settings, gaps: &mut Vec<String>) -> BTreeMap<String, Digest> {
    let mut found = BTreeMap::new();
    for (path, suffix) in WATCHED {
        let on_host = settings.host(path);
        if on_host.is_dir() {
            for entry in fs::read_dir(&on_host).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(suffix) && !name.starts_with('.') {
                    add(settings, &format!("{path}/{name}"), &mut found, gaps);
                }
            }
        } else {
            add(settings, path, &mut found, gaps);
        }
    }
    found
}

fn add(
    settings: &Settings,
    path: &str,
    found: &mut BTreeMap<String, Digest>,
    gaps: &mut Vec<String>,
) {
    let on_host = settings.host(path);
    let read = fs::metadata(&on_host).and_then(|m| match m.is_file() && m.len() <= LARGEST {
        true => fs::read(&on_host).map(Some),
        false => Ok(None),
    });
    match read {
        Ok(Some(bytes)) => {
            found.insert(path.to_owned(), Digest::of(&bytes));
        }
        Ok(None) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => gaps.push(format!("configuration: {path}: {e}")),
    }
}
