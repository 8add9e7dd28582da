//! `systemd-analyze verify` of the units that a change touches.

use crate::command::{self, command};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where units of the system lie, the administrator's first.
const DIRECTORIES: [&str; 3] =
    ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const KINDS: [&str; 8] =
    ["service", "socket", "timer", "mount", "automount", "path", "target", "slice"];
/// Looked at one by one, when something is wrong with one of them, are at most so many.
const MOST: usize = 60;
const DEADLINE: Duration = Duration::from_secs(60);
/// What the name of a test of a unit begins with.
const PREFIX: &str = "unit ";

/// The units that these changed paths make up: unit files and the units that drop-ins belong to.
pub fn changed<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let mut out: Vec<String> = paths
        .filter_map(|path| {
            let rest = DIRECTORIES.iter().find_map(|d| path.strip_prefix(d).ok())?;
            let mut parts = rest.iter().map(|p| p.to_str());
            let unit = match (parts.next()??, parts.next(), parts.next()) {
                (unit, None, _) => unit,
                (directory, Some(Some(drop_in)), None) if drop_in.ends_with(".conf") => {
                    directory.strip_suffix(".d")?
                }
                _ => return None,
            };
            let (_, kind) = unit.rsplit_once('.')?;
            KINDS.contains(&kind).then(|| unit.to_owned())
        })
        .collect();
    out.sort();
    out.dedup();
    out
}

/// The units among the names of tests.
pub fn named<'a>(tests: impl Iterator<Item = &'a String>) -> Vec<String> {
    tests.filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect()
}

/// Verifies these units of the running root: (names of tests that hold, name → what the others said).
pub fn run_all(units: &[String]) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut passed, mut broken) = (Vec::new(), BTreeMap::new());
    verify(Path::new("/"), units, &mut passed, &mut broken);
    (passed, broken)
}

/// Verifies these units. Adds the names of those that hold, and what is said of the others. Units that are not
/// there (any more), and links, are left out.
pub(super) fn verify(
    root: &Path,
    units: &[String],
    passed: &mut Vec<String>,
    broken: &mut BTreeMap<String, String>,
) {
    let Some(program) = command::find(root, "systemd-analyze") else { return };
    let place = |unit: &String| -> Option<(String, PathBuf)> {
        let path = DIRECTORIES
            .iter()
            .map(|d| Path::new(d).join(unit))
            .find(|p| root.join(p.strip_prefix("/").unwrap_or(p)).symlink_metadata().is_ok())?;
        let found = root.join(path.strip_prefix("/").unwrap_or(&path)).symlink_metadata().ok()?;
        found.is_file().then(|| (unit.clone(), path))
    };
    let places: Vec<(String, PathBuf)> = units.iter().filter_map(place).collect();
    if places.is_empty() {
        return;
    }
    let ask = |paths: &[&PathBuf]| {
        let mut ask = command(&program.to_string_lossy());
        ask.args(["verify", "--man=no", "--"]).args(paths);
        command::run(&mut ask, Some(DEADLINE))
    };
    let all: Vec<&PathBuf> = places.iter().map(|(_, path)| path).collect();
    if ask(&all).is_ok_and(|output| output.success()) {
        passed.extend(places.into_iter().map(|(unit, _)| format!("{PREFIX}{unit}")));
        return;
    }
    for (unit, path) in places.into_iter().take(MOST) {
        let name = format!("{PREFIX}{unit}");
        match ask(&[&path]) {
            Ok(output) if output.success() => passed.push(name),
            Ok(output) => {
                // It also tells of other units that this one names.
                let own: Vec<&str> =
                    output.text.lines().filter(|l| l.contains(unit.as_str())).collect();
                let said =
                    if own.is_empty() { output.tail(3) } else { command::tail(&own.join("\n"), 3) };
                broken.insert(name, format!("{}: {said}", output.ending()));
            }
            Err(e) => {
                broken.insert(name, format!("systemd-analyze cannot be run: {e}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_drop_ins_are_units_and_links_of_targets_are_not() {
        let paths = [
            "/lib/systemd/system/nginx.service",
            "/usr/lib/systemd/system/nginx.service",
            "/etc/systemd/system/ssh.service.d/limits.conf",
            "/etc/systemd/system/multi-user.target.wants/nginx.service",
            "/lib/systemd/system-generators/x",
            "/etc/nginx/nginx.conf",
            "/lib/systemd/system/apt-daily.timer",
        ];
        assert_eq!(
            changed(paths.iter().map(Path::new)),
            ["apt-daily.timer", "nginx.service", "ssh.service"]
        );
    }
}
