//! Settings of the machine that hosts depend on. What was there before is recorded first, and put
//! back by `down`; while another lab is up, that is left to whichever goes down last.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::LabError;
use crate::tool::last_lines;

/// A number under `/proc/sys` that must be at least so large.
struct Setting {
    file: &'static str,
    least: u64,
}

const SETTINGS: &[Setting] = &[
    // Hosts reach the package sources through this machine.
    Setting { file: "/proc/sys/net/ipv4/ip_forward", least: 1 },
    // One count for all hosts together; each uses eight at rest, and the usual limit is 128.
    Setting { file: "/proc/sys/fs/inotify/max_user_instances", least: 1024 },
    Setting { file: "/proc/sys/fs/inotify/max_user_watches", least: 65536 },
];

/// What was there before the lab changed it, and what the lab wrote.
pub(crate) type Changed = BTreeMap<PathBuf, (u64, u64)>;

/// What has to be changed now.
pub(crate) fn wanting() -> Result<Changed, LabError> {
    let mut wanting = Changed::new();
    for setting in SETTINGS {
        let path = Path::new(setting.file);
        let now = read(path)?;
        if now < setting.least {
            wanting.insert(path.to_path_buf(), (now, setting.least));
        }
    }
    Ok(wanting)
}

/// Changes what has to be; `changed` is on record by now.
pub(crate) fn set(changed: &Changed) -> Result<(), LabError> {
    for (path, (_, value)) in changed {
        fs::write(path, value.to_string()).map_err(LabError::io("set", path))?;
    }
    Ok(())
}

/// Puts back what was there, except where somebody has changed it since.
pub(crate) fn restore(changed: &Changed) -> Result<(), LabError> {
    for (path, (before, value)) in changed {
        if read(path)? == *value {
            fs::write(path, before.to_string()).map_err(LabError::io("set", path))?;
        }
    }
    Ok(())
}

/// What labs that went down before the last one would have put back. Gone with the next boot, as the settings are.
pub(crate) const HANDED_OVER: &str = "/run/fettle-lab-settings.json";

/// Leaves it to the lab that goes down last to put back what was there.
pub(crate) fn hand_over(changed: &Changed, file: &Path) -> Result<(), LabError> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut all = handed_over(file);
    for (path, values) in changed {
        // The first value on record is the machine's own.
        all.entry(path.clone()).or_insert(*values);
    }
    let text = serde_json::to_vec(&all).map_err(|e| LabError::io("write", file)(e.into()))?;
    fs::write(file, text).map_err(LabError::io("write", file))
}

/// What other labs left to this one to put back.
pub(crate) fn take_over(file: &Path) -> Result<Changed, LabError> {
    let handed = handed_over(file);
    match fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(LabError::io("remove", file)(e)),
        _ => Ok(handed),
    }
}

fn handed_over(file: &Path) -> Changed {
    fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn read(path: &Path) -> Result<u64, LabError> {
    let bytes = fs::read(path).map_err(LabError::io("read", path))?;
    last_lines(&bytes, 1).trim().parse().map_err(|_| LabError::Machine {
        what: format!("{} does not hold a number", path.display()),
        next: "look at it; the lab needs to know what to put back".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_changed_since_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, value: &str| {
            let path = dir.path().join(name);
            fs::write(&path, value).unwrap();
            path
        };
        let (ours, theirs) = (file("a", "0\n"), file("b", "128\n"));
        let changed = Changed::from([(ours.clone(), (0, 1)), (theirs.clone(), (128, 1024))]);
        set(&changed).unwrap();
        assert_eq!(read(&ours).unwrap(), 1);
        fs::write(&theirs, "4096\n").unwrap();
        restore(&changed).unwrap();
        assert_eq!((read(&ours).unwrap(), read(&theirs).unwrap()), (0, 4096));
    }

    #[test]
    fn the_last_lab_puts_back_what_the_first_one_found() {
        let dir = tempfile::tempdir().unwrap();
        let (file, forward) = (dir.path().join("handed"), dir.path().join("forward"));
        fs::write(&forward, "1\n").unwrap();
        // The first lab found 0; the second found what the first had set, and changed nothing.
        hand_over(&Changed::from([(forward.clone(), (0, 1))]), &file).unwrap();
        hand_over(&Changed::new(), &file).unwrap();
        assert_eq!(read(&forward).unwrap(), 1);
        restore(&take_over(&file).unwrap()).unwrap();
        assert_eq!(read(&forward).unwrap(), 0);
        assert!(!file.exists() && take_over(&file).unwrap().is_empty());
    }
}
