//! GRUB on a disk of its own: what it keeps outside of every file system is written anew by an update, and put back by
//! an undo. On an emulated machine, which must boot from it afterwards.

use super::machines::{PATIENCE, SHORT, on_machine, wait_ended};
use super::{End, Extent, Stand};
use crate::{LabError, Machine};

const PACKAGE: &str = "grub-pc";

/// The version of the security suite, which an update of the release has overtaken, installed on the machine's disk.
const OLDER: &str = r#"
echo 'grub-pc grub-pc/install_devices multiselect /dev/vda' | debconf-set-selections
v=$(apt-cache madison grub-pc | awk -F'|' '/-security/ { gsub(/ /, "", $2); print $2; exit }')
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --allow-downgrades --no-install-recommends grub-pc=$v grub-pc-bin=$v grub-common=$v grub2-common=$v >/dev/null
"#;

/// The code in the first sector and the room before the first partition; the partition table is left out.
const OUTSIDE: &str =
    "{ head -c 440 /dev/vda; dd if=/dev/vda bs=512 skip=1 count=2047 2>/dev/null; } | sha256sum";

/// Patched, taken back byte for byte, and booted.
pub(super) fn there_and_back(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, PACKAGE, "there and back", OLDER, |m, was| {
        let before = outside(m)?;
        run(m, "patch grub-pc")?;
        wait_ended(m, 1, |_| Ok(()))?;
        let fired = outside(m)? != before;
        let end = was.judge(m, End::Patched)?;
        if end != Ok(End::Patched) {
            return Ok((fired, end));
        }
        run(m, "undo")?;
        wait_ended(m, 2, |_| Ok(()))?;
        let end = was.judge(m, End::Undone)?.map(|_| End::Patched);
        if end.is_ok() && outside(m)? != before {
            return Ok((fired, Err("what GRUB keeps outside of file systems differs".to_owned())));
        }
        m.power_off()?;
        m.power_on(&[])?;
        Ok((fired, end))
    })
}

fn run(machine: &Machine, command: &str) -> Result<(), LabError> {
    let line = format!("systemd-run --quiet --collect --no-block fettle-agent {command}");
    machine.sh(&line, SHORT).map(drop)
}

fn outside(machine: &Machine) -> Result<String, LabError> {
    machine.sh(OUTSIDE, PATIENCE)
}
