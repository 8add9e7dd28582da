//! Data that the administrator has declared: what lies there is never kept for a way back, never put back and never
//! removed. `/etc/fettle/data.d/*`, one absolute path a line; `#` begins a comment. Where a path leads through symbolic
//! links, what it leads to is declared with it.

use crate::settings::Settings;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Without these there is no way back: what is above or in one of them cannot be data.
const NEVER: [&str; 4] = ["/usr", "/etc/apt", "/etc/dpkg", "/var/lib/dpkg"];

/// The declared paths, sorted. Lines that cannot be one are left out: a mistake there must not stand in the way of an
/// undo; [`check`] tells of it before a change.
pub fn declared(settings: &Settings) -> Vec<PathBuf> {
    read(settings).into_iter().filter_map(|line| line.path.ok()).collect()
}

/// The declared paths.
///
/// # Errors
/// The first line that cannot be one: where it stands, and what is wrong.
pub fn check(settings: &Settings) -> Result<Vec<PathBuf>, String> {
    let place = |line: &Line| format!("{} line {}", line.file.display(), line.number);
    let one = |line: Line| line.path.clone().map_err(|why| format!("{}: {why}", place(&line)));
    read(settings).into_iter().map(one).collect()
}

struct Line {
    file: PathBuf,
    number: usize,
    path: Result<PathBuf, String>,
}

fn read(settings: &Settings) -> Vec<Line> {
    let directory = settings.config_dir.join("data.d");
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    let mut out = Vec::new();
    for file in files {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) => {
                out.push(Line { file, number: 1, path: Err(format!("cannot be read: {e}")) });
                continue;
            }
        };
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let own = path(line);
            let there = own.as_ref().ok().and_then(|path| leads_to(settings, path));
            let there = there.map(|there| path_in(line, &there));
            out.extend(there.map(|path| Line { file: file.clone(), number, path }));
            out.push(Line { file: file.clone(), number, path: own });
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out.dedup_by(|a, b| a.path.is_ok() && a.path == b.path);
    out
}

/// Where a path really is, with the links in it followed as far as it is there. `None`: where it says.
fn leads_to(settings: &Settings, path: &Path) -> Option<PathBuf> {
    let root = settings.root.canonicalize().ok()?;
    let there = path.ancestors().find_map(|above| {
        let there = settings.host(above.to_str()?).canonicalize().ok()?;
        let rest = path.strip_prefix(above).ok()?;
        Some(Path::new("/").join(there.strip_prefix(&root).ok()?).join(rest))
    })?;
    let there: PathBuf = there.components().collect();
    (there != path).then_some(there)
}

fn path(text: &str) -> Result<PathBuf, String> {
    path_in(text, Path::new(text))
}

/// `text`: the line that led to it.
fn path_in(text: &str, path: &Path) -> Result<PathBuf, String> {
    let is_plain =
        path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain {
        return Err(format!("`{text}` is no absolute path: write one such as /var/lib/mysql"));
    }
    match NEVER.iter().find(|never| path.starts_with(never) || Path::new(never).starts_with(path)) {
        Some(never) => {
            Err(format!("`{text}` cannot be data: without {never} there is no way back"))
        }
        None => Ok(path.components().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_through_links_declares_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            root: dir.path().join("root"),
            config_dir: dir.path().join("config"),
            ..Settings::default()
        };
        for directory in ["root/var/lib", "root/data/mysql", "root/usr/share/x", "config/data.d"] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        let link = |to: &str, at: &str| {
            std::os::unix::fs::symlink(to, settings.root.join(at)).unwrap();
        };
        link("../../data/mysql", "var/lib/mysql");
        link("data", "srv");
        link("usr/share", "opt");
        let declare = |text: &str| fs::write(settings.config_dir.join("data.d/a"), text).unwrap();
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        declare("/var/lib/mysql\n");
        assert_eq!(declared(&settings), paths(&["/data/mysql", "/var/lib/mysql"]));
        declare("/srv/not/yet\n/data/not/yet\n");
        assert_eq!(
            check(&settings),
            Ok(paths(&["/data/not/yet", "/srv/not/yet"])),
            "what is not there yet leads where it would be; each is named once"
        );
        declare("/opt/x\n");
        let said = check(&settings).unwrap_err();
        assert!(said.contains("`/opt/x` cannot be data") && said.contains("/usr"), "{said}");
        assert_eq!(declared(&settings), paths(&["/opt/x"]));
    }

    #[test]
    fn paths_are_read_from_every_file_and_a_line_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { config_dir: dir.path().to_owned(), ..Settings::default() };
        assert_eq!(check(&settings), Ok(vec![]));
        let write = |name: &str, text: &str| {
            fs::create_dir_all(dir.path().join("data.d")).unwrap();
            fs::write(dir.path().join("data.d").join(name), text).unwrap();
        };
        write("db", "# the databases\n/var/lib/mysql/\n\n/srv/a b  # and this\n");
        write("zone", "/etc/bind/zones\n");
        let all = ["/etc/bind/zones", "/srv/a b", "/var/lib/mysql"].map(PathBuf::from);
        assert_eq!(check(&settings), Ok(all.to_vec()));
        for (bad, why) in [
            ("srv", "no absolute path"),
            ("/srv/../usr", "no absolute path"),
            ("/", "no way back"),
            ("/var", "/var/lib/dpkg"),
            ("/usr/share/x", "/usr"),
        ] {
            write("zz", &format!("/opt/ok\n{bad}\n"));
            let said = check(&settings).unwrap_err();
            assert!(said.contains("data.d/zz line 2") && said.contains(why), "{said}");
            assert_eq!(declared(&settings).len(), 4, "the good ones hold all the same");
        }
    }
}
