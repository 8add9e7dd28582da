//! Kernels that come up, and kernels that do not: on emulated machines, each with a boot loader of its own.

use super::machines::{SHORT, on_machine, wait_ended};
use super::{End, Extent, Stand};
use crate::{LabError, Machine};

/// The package that brings the newest kernel.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Said on the console by a machine that will not go on.
const HANGS: &str = "this kernel goes no further";

/// Spoils the initial file system of every kernel that is installed from now on: it panics.
const SPOIL: &str = r#"
cat > /etc/kernel/postinst.d/zz-a-spoil <<'EOF'
#!/bin/sh
echo spoilt > /boot/initrd.img-$1
EOF
chmod 755 /etc/kernel/postinst.d/zz-a-spoil
"#;

/// A kernel with another release than the one that runs now stops at the first thing it does, and waits for ever.
const HANG: &str = r#"
cat > /etc/initramfs-tools/scripts/init-top/a-hang <<EOF
#!/bin/sh
case "\$1" in prereqs) exit 0 ;; esac
[ "\$(uname -r)" = "$(uname -r)" ] && exit 0
echo "this kernel goes no further" > /dev/console
while :; do sleep 3600; done
EOF
chmod 755 /etc/initramfs-tools/scripts/init-top/a-hang
"#;

/// A new kernel is tried, runs, and is taken back with a reboot.
pub(super) fn rebooted(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, KERNEL, "there and back", "", |m, was| {
        let first = m.boot_id();
        patch(m)?;
        wait_ended(m, 1, |_| Ok(()))?;
        let fired = m.boot_id() != first;
        let end = was.judge(m, End::Patched)?;
        if end == Ok(End::Patched) {
            m.sh("systemd-run --quiet --collect --no-block fettle-agent undo", SHORT)?;
            wait_ended(m, 2, |_| Ok(()))?;
            return Ok((fired, was.judge(m, End::Undone)?.map(|_| End::Patched)));
        }
        Ok((fired, end))
    })
}

/// A new kernel panics: nobody has to come.
pub(super) fn panics(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, KERNEL, "the new kernel panics", SPOIL, |m, was| {
        patch(m)?;
        wait_ended(m, 1, |_| Ok(()))?;
        let fired = m.console(100_000).matches("Kernel panic").count() > 0;
        Ok((fired, was.judge(m, End::Undone)?))
    })
}

/// A new kernel hangs: somebody switches the machine off and on, and does nothing else.
pub(super) fn hangs(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, KERNEL, "the new kernel hangs", HANG, |m, was| {
        patch(m)?;
        let mut reset = 0;
        wait_ended(m, 1, |m| {
            if m.console(100_000).matches(HANGS).count() > reset {
                reset += 1;
                m.power_cut()?;
                m.power_on(&[])?;
            }
            Ok(())
        })?;
        Ok((reset > 0, was.judge(m, End::Undone)?))
    })
}

fn patch(machine: &Machine) -> Result<(), LabError> {
    let line =
        format!("systemd-run --quiet --collect --no-block fettle-agent patch {KERNEL} --reboot");
    machine.sh(&line, SHORT).map(drop)
}
