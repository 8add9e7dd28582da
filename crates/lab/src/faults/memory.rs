//! Too little memory: on an emulated machine, whose kernel accounts for it and kills.

use super::machines::{SHORT, on_machine, wait_ended};
use super::{End, Extent, Stand};
use crate::LabError;

/// Small, and nobody runs it.
const PACKAGE: &str = "unzip";
/// Whatever changes packages has so much memory and no swap; and before dpkg configures what the real change has
/// unpacked, there runs, once, a script that takes more.
const HUNGRY: &str = r#"
mkdir -p /etc/systemd/system/fettle-apply-.service.d
printf '[Service]\nMemoryMax=192M\nMemorySwapMax=0\n' > /etc/systemd/system/fettle-apply-.service.d/limit.conf
cat > /usr/local/sbin/dpkg-hungry <<'EOF'
#!/bin/sh
case " $* " in *" --configure "*)
    if [ ! -e /run/fettle-rehearsal ] && [ ! -e /run/was-hungry ]; then
        touch /run/was-hungry
        perl -e '$x = "a" x 400_000_000; print length $x' || { echo "dpkg-hungry: killed" >&2; exit 137; }
    fi ;;
esac
exec /usr/bin/dpkg "$@"
EOF
chmod 755 /usr/local/sbin/dpkg-hungry
echo 'Dir::Bin::dpkg "/usr/local/sbin/dpkg-hungry";' > /etc/apt/apt.conf.d/99hungry
systemctl daemon-reload
"#;

/// The kernel kills a script of the change, and nobody else ends what is under way. Nothing was wrong with the change:
/// it is gone on with, or taken back.
pub(super) fn wanting(stand: &mut Stand<'_>, _: Extent) -> Result<(), LabError> {
    on_machine(stand, PACKAGE, "while it configures", HUNGRY, |m, was| {
        let line = format!("systemd-run --quiet --collect --no-block fettle-agent patch {PACKAGE}");
        m.sh(&line, SHORT)?;
        wait_ended(m, 1, |_| Ok(()))?;
        let count = "journalctl -k | grep -c 'Memory cgroup out of memory' || true";
        let fired = m.sh(count, SHORT)?.trim().parse::<u32>().is_ok_and(|n| n > 0);
        let end = match was.judge(m, End::Patched)? {
            Ok(end) => Ok(end),
            Err(_) => was.judge(m, End::Undone)?,
        };
        Ok((fired, end))
    })
}
