//! A new kernel is booted on trial: once, and if the host does not come up with it, GRUB boots the old one.
//!
//! GRUB's menu gets two entries of ours, by `custom.cfg`, which its own configuration reads last (`41_custom`): the
//! new kernel, with an order to reboot when it panics, and the old one, which is booted whenever nothing else was
//! asked for. What is asked for is in GRUB's environment block (`next_entry`, as `grub-reboot(8)` writes it), and GRUB
//! takes it out before it boots. So a machine that panics, is reset or loses its power comes up with the kernel that is
//! known to work, where this transaction finds that the new one does not run.

use super::{Transaction, io_fault, read_kept};
use crate::command::{self, command};
use crate::durable;
use fettle_core::transaction::Fault;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file that keeps what GRUB's files were.
const KEPT: &str = "trial.json";
/// The entry that boots the new kernel, once.
const NEW: &str = "fettle-trial";
/// The entry that boots the old kernel.
const OLD: &str = "fettle-before";
/// Seconds after which a kernel that panics reboots (`panic=` in kernel-parameters; initramfs-tools(7) reboots by it
/// instead of asking a person).
const PANIC_SECONDS: u32 = 10;
/// `grub-editenv` may take so long.
const EDITS: Duration = Duration::from_secs(30);

/// What GRUB's files were before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    /// Content of `custom.cfg`; `None`: there was none.
    custom: Option<String>,
    /// `next_entry` of the environment block; `None`: not set.
    next_entry: Option<String>,
}

/// Asks GRUB to boot `new` once, and `old` from then on, until [`clear`]. May be done again. `Err` of the inner
/// result: there can be no trial here, and why; the host then simply reboots.
///
/// # Errors
/// When GRUB's files cannot be written. They are then as they were.
pub(super) fn arrange(
    tx: &Transaction<'_>,
    old: &str,
    new: &str,
) -> Result<Result<(), String>, Fault> {
    let grub = Grub::of(&tx.settings.host("boot/grub"));
    let entries = match grub.entries(old, new) {
        Ok(entries) => entries,
        Err(why) => return Ok(Err(why)),
    };
    let arranged = (|| {
        let before = match read_kept::<Before>(&tx.directory, KEPT) {
            Some(before) => before,
            None => {
                let before = Before { custom: grub.custom()?, next_entry: grub.next_entry()? };
                let text = serde_json::to_vec(&before)?;
                durable::replace(&tx.directory.join(KEPT), &text)?;
                before
            }
        };
        let own = before.custom.as_deref().unwrap_or_default();
        durable::replace(&grub.directory.join("custom.cfg"), with(own, &entries).as_bytes())?;
        grub.set_next_entry(Some(NEW))
    })();
    match arranged {
        Ok(()) => Ok(Ok(())),
        Err(error) => {
            clear(tx)?;
            Err(io_fault("ask GRUB for a trial of the new kernel")(error))
        }
    }
}

/// Makes GRUB's files as they were. Gives whether there was a trial.
///
/// # Errors
/// When they cannot be written.
pub(super) fn clear(tx: &Transaction<'_>) -> Result<bool, Fault> {
    let Some(before) = read_kept::<Before>(&tx.directory, KEPT) else { return Ok(false) };
    let grub = Grub::of(&tx.settings.host("boot/grub"));
    let custom = grub.directory.join("custom.cfg");
    let cleared = (|| {
        match &before.custom {
            Some(text) => durable::replace(&custom, text.as_bytes())?,
            None => durable::remove(&custom)?,
        }
        grub.set_next_entry(before.next_entry.as_deref())?;
        durable::remove(&tx.directory.join(KEPT))
    })();
    cleared.map(|()| true).map_err(io_fault("give GRUB back what it booted before"))
}

/// GRUB's directory on this host.
struct Grub {
    directory: PathBuf,
}

impl Grub {
    fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The entries of the menu for the two kernels: old, new. `Err`: why there can be no trial.
    fn entries(&self, old: &str, new: &str) -> Result<(Entry, Entry), String> {
        if old == new {
            return Err("the new kernel has taken the old one's name".to_owned());
        }
        let cfg = fs::read_to_string(self.directory.join("grub.cfg"))
            .map_err(|_| "its boot loader is not GRUB".to_owned())?;
        if !cfg.contains("save_env next_entry") || !cfg.contains("custom.cfg") {
            return Err("GRUB's configuration is not one of grub-mkconfig's".to_owned());
        }
        let none = |release: &str| format!("GRUB's menu has no entry for {release}");
        let old = entry(&cfg, old).ok_or_else(|| none(old))?;
        let new = entry(&cfg, new).ok_or_else(|| none(new))?;
        if !self.directory.join("grubenv").is_file() || !self.is_written_by_grub() {
            return Err("GRUB cannot write its environment block where it lies".to_owned());
        }
        Ok((old, new))
    }

    /// GRUB must take `next_entry` out before it boots: else a bad kernel would be tried for ever. It can on plain
    /// partitions with these file systems, not through device mapper or RAID (GRUB manual, "Environment block").
    fn is_written_by_grub(&self) -> bool {
        const EXT: u64 = 0xef53;
        const XFS: u64 = 0x5846_5342;
        const VFAT: u64 = 0x4d44;
        let plain = fs::metadata(&self.directory).is_ok_and(|found| {
            let device = found.dev();
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
            block.exists() && !block.join("dm").exists() && !block.join("md").exists()
        });
        let kind =
            rustix::fs::statfs(&self.directory).map(|s| u64::try_from(s.f_type).unwrap_or(0));
        plain && kind.is_ok_and(|kind| [EXT, XFS, VFAT].contains(&kind))
    }

    fn custom(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.directory.join("custom.cfg")) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn next_entry(&self) -> io::Result<Option<String>> {
        let listed = self.edit(&["list"])?;
        Ok(listed.lines().find_map(|l| l.strip_prefix("next_entry=")).map(str::to_owned))
    }

    fn set_next_entry(&self, value: Option<&str>) -> io::Result<()> {
        match value {
            Some(value) => self.edit(&["set", &format!("next_entry={value}")])?,
            None => self.edit(&["unset", "next_entry"])?,
        };
        fs::File::open(self.directory.join("grubenv"))?.sync_all()?;
        durable::sync_directory(&self.directory)
    }

    fn edit(&self, words: &[&str]) -> io::Result<String> {
        let block = self.directory.join("grubenv");
        let said = command::run(command("grub-editenv").arg(block).args(words), Some(EDITS))?;
        match said.success() {
            true => Ok(said.text),
            false => Err(io::Error::other(format!("grub-editenv: {}", said.tail(2)))),
        }
    }
}

/// What a menu entry does, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    release: String,
    body: String,
}

/// The first entry of the menu that boots `release` in the usual way, as `grub-mkconfig(8)` writes them: `menuentry`
/// ends its line with a brace, and a brace alone, indented as far, ends the entry.
fn entry(cfg: &str, release: &str) -> Option<Entry> {
    let mut lines = cfg.lines();
    while let Some(line) = lines.next() {
        let start = line.trim_start();
        if !start.starts_with("menuentry ") || !line.trim_end().ends_with('{') {
            continue;
        }
        let indent = &line[..line.len() - start.len()];
        let body: Vec<&str> = lines
            .by_ref()
            .take_while(|l| l.strip_prefix(indent).is_none_or(|l| l.trim_end() != "}"))
            .collect();
        if body.iter().any(|line| boots(line, release)) {
            let body = body.iter().map(|line| format!("\t{}\n", line.trim())).collect();
            return Some(Entry { release: release.to_owned(), body });
        }
    }
    None
}

/// Is this the command that loads the kernel of `release`, and not for a rescue?
fn boots(line: &str, release: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let load = words.next().is_some_and(|w| matches!(w, "linux" | "linuxefi" | "linux16"));
    let image = words.next().and_then(|path| path.rsplit('/').next());
    load && image.and_then(|name| name.strip_prefix("vmlinuz-")) == Some(release)
        && !words.any(|w| matches!(w, "single" | "recovery" | "emergency" | "rescue"))
}

/// `custom.cfg` with the two entries behind what the administrator wrote there.
fn with(own: &str, (old, new): &(Entry, Entry)) -> String {
    let mut body = String::new();
    for line in new.body.lines() {
        body.push_str(line);
        if boots(line, &new.release) {
            body.push_str(&format!(" panic={PANIC_SECONDS}"));
        }
        body.push('\n');
    }
    let gap = if own.is_empty() || own.ends_with('\n') { "" } else { "\n" };
    format!(
        "{own}{gap}# Written by fettle-agent while it tries a new kernel; it takes this out again.\n\
         menuentry 'Linux {}, on trial' --id {NEW} {{\n{body}}}\n\
         menuentry 'Linux {}, as before' --id {OLD} {{\n{}}}\n\
         if [ \"${{default}}\" != {NEW} ]; then\n\tset default={OLD}\nfi\n",
        new.release, old.release, old.body
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian 12 writes it, shortened.
    const CFG: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
fi
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	linux	/boot/vmlinuz-6.1.0-56-amd64 root=UUID=1 ro  quiet
	initrd	/boot/initrd.img-6.1.0-56-amd64
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-1' {
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-50-amd64 (recovery mode)' {
		linux	/boot/vmlinuz-6.1.0-50-amd64 root=UUID=1 ro single
		initrd	/boot/initrd.img-6.1.0-50-amd64
	}
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-50-amd64' --class debian {
		insmod part_gpt
		echo	'Loading Linux 6.1.0-50-amd64 ...'
		linux	/boot/vmlinuz-6.1.0-50-amd64 root=UUID=1 ro  quiet
		initrd	/boot/initrd.img-6.1.0-50-amd64
	}
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
fi
"#;

    fn both() -> (Entry, Entry) {
        (entry(CFG, "6.1.0-50-amd64").unwrap(), entry(CFG, "6.1.0-56-amd64").unwrap())
    }

    #[test]
    fn an_entry_is_found_by_the_kernel_it_boots_and_never_a_rescue() {
        let (old, new) = both();
        assert_eq!(
            old.body,
            "\tinsmod part_gpt\n\techo	'Loading Linux 6.1.0-50-amd64 ...'\n\
             \tlinux	/boot/vmlinuz-6.1.0-50-amd64 root=UUID=1 ro  quiet\n\
             \tinitrd	/boot/initrd.img-6.1.0-50-amd64\n"
        );
        assert!(new.body.starts_with("\tload_video\n\tif [ x$grub_platform = xxen ]; then"));
        for none in ["6.1.0-5-amd64", "6.1.0-50", ""] {
            assert_eq!(entry(CFG, none), None, "{none}");
        }
    }

    #[test]
    fn the_old_kernel_is_the_default_and_only_the_new_one_reboots_when_it_panics() {
        let text = with("set color=1", &both());
        assert!(text.starts_with("set color=1\n# Written by fettle-agent"));
        assert_eq!(text.matches(" panic=10").count(), 1);
        assert!(text.contains("vmlinuz-6.1.0-56-amd64 root=UUID=1 ro  quiet panic=10\n"));
        assert!(text.contains("--id fettle-before {"));
        let last = "if [ \"${default}\" != fettle-trial ]; then\n\tset default=fettle-before\nfi\n";
        assert!(text.ends_with(last));
        assert!(with("", &both()).starts_with("# Written"));
    }

    #[test]
    fn grub_itself_takes_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("custom.cfg");
        fs::write(&file, with("", &both())).unwrap();
        match std::process::Command::new("grub-script-check").arg(&file).output() {
            Ok(said) => assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr)),
            Err(_) => eprintln!("skipped: grub-script-check is not installed"),
        }
    }

    #[test]
    fn without_a_menu_of_grub_there_is_no_trial_and_the_reason_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let grub = Grub::of(directory.path());
        let why = |old, new| grub.entries(old, new).unwrap_err();
        assert_eq!(why("1", "1"), "the new kernel has taken the old one's name");
        assert_eq!(why("1", "2"), "its boot loader is not GRUB");
        fs::write(directory.path().join("grub.cfg"), "menuentry 'own' {\n}\n").unwrap();
        assert_eq!(why("1", "2"), "GRUB's configuration is not one of grub-mkconfig's");
        fs::write(directory.path().join("grub.cfg"), CFG).unwrap();
        assert_eq!(why("6.1.0-50-amd64", "2"), "GRUB's menu has no entry for 2");
        let both = ("6.1.0-50-amd64", "6.1.0-56-amd64");
        assert_eq!(why(both.0, both.1), "GRUB cannot write its environment block where it lies");
    }
}
