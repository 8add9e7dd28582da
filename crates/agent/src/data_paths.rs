//! Data that the administrator has declared: what lies there is never kept for a way back, never put back and never
//! removed. `/etc/fettle/data.d/*`, one absolute path a line; `#` begins a comment.

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
            if !line.is_empty() {
                out.push(Line { file: file.clone(), number, path: path(line) });
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

fn path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
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
