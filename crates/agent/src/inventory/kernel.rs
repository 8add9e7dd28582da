//! The running kernel, the installed ones, and whether a reboot is owed.

use super::dpkg;
use crate::settings::Settings;
use fettle_core::inventory::{Kernel, Package};
use fettle_core::version::deb;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

/// Reads the kernel that runs now and finds those installed.
pub(super) fn read(settings: &Settings, packages: &[Package]) -> io::Result<Kernel> {
    let Running { release, version } = running();
    Ok(Kernel {
        from_package: is_from_package(settings, packages, &release),
        installed: installed(packages),
        running: release,
        running_version: debian_version(&version).unwrap_or_default().to_owned(),
    })
}

/// Debian writes the kernel's package version into `uname -v`: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)`.
fn debian_version(text: &str) -> Option<&str> {
    let mut words = text.split_ascii_whitespace();
    words.find(|w| *w == "Debian")?;
    words.next().filter(|v| v.starts_with(|c: char| c.is_ascii_digit()))
}

/// Kernel image packages: `linux-image-6.1.0-28-amd64`, not the metapackage `linux-image-amd64`, not `-dbg`.
fn installed(packages: &[Package]) -> BTreeMap<String, String> {
    packages
        .iter()
        .filter(|p| image_release(&p.name).is_some())
        .map(|p| (p.name.clone(), p.version.clone()))
        .collect()
}

/// `6.1.0-28-amd64` of `linux-image-6.1.0-28-amd64`.
fn image_release(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    let release = release.strip_prefix("unsigned-").unwrap_or(release);
    (release.starts_with(|c: char| c.is_ascii_digit()) && !release.ends_with("-dbg"))
        .then_some(release)
}

/// The image package whose file list holds the running kernel's modules. In a container the host's kernel runs,
/// which is none of the container's packages.
fn is_from_package(settings: &Settings, packages: &[Package], running: &str) -> bool {
    packages.iter().filter(|p| image_release(&p.name).is_some()).any(|p| {
        let Some(list) = dpkg::info_file(settings, &p.name, &p.architecture, "list") else {
            return false;
        };
        let Ok(list) = fs::read(list) else { return false };
        let modules = [format!("/lib/modules/{running}"), format!("/usr/lib/modules/{running}")];
        let image = format!("/boot/vmlinuz-{running}");
        list.split(|b| *b == b'\n')
            .any(|line| line == image.as_bytes() || modules.iter().any(|m| line == m.as_bytes()))
    })
}

/// Debian's name for the host's architecture: what the packages `dpkg` or `libc6` were built for, else the
/// machine's own name translated.
pub(super) fn architecture(packages: &[Package]) -> String {
    if let Some(package) = packages.iter().find(|p| p.name == "dpkg" && p.architecture != "all") {
        return package.architecture.clone();
    }
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        other => other,
    }
    .to_owned()
}

/// Changes at every boot.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Time since this host booted, suspended time included (`proc_uptime(5)`): no step of the clock changes it.
///
/// # Errors
/// When `/proc/uptime` cannot be read.
pub fn uptime() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|t| t.parse().ok());
    let uptime = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    uptime.ok_or_else(|| io::Error::other(format!("/proc/uptime says `{}`", text.trim())))
}

/// Why this host owes a reboot now; sorted, each reason once. What cannot be read owes nothing here: the inventory
/// tells it as a gap.
pub fn owed(settings: &Settings) -> Vec<String> {
    let packages = dpkg::database(settings).map(|d| d.packages).unwrap_or_default();
    let mut reasons = match read(settings, &packages) {
        Ok(kernel) => reboot_needed(settings, &kernel),
        Err(_) => reboot_needed(settings, &Kernel::default()),
    };
    reasons.sort();
    reasons.dedup();
    reasons
}

/// The kernel that runs, as `uname -r` and `uname -v` print it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// `6.1.0-28-amd64`.
    pub release: String,
    /// `#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)`.
    pub version: String,
}

/// The kernel that runs now.
pub fn running() -> Running {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Running { release: text(uname.release()), version: text(uname.version()) }
}

/// Release of the installed kernel that a reboot would bring; `None`: the newest one runs already, or the kernel is not
/// this host's own.
pub fn pending(settings: &Settings) -> Option<String> {
    let packages = dpkg::database(settings).map(|d| d.packages).ok()?;
    let kernel = read(settings, &packages).ok()?;
    let (name, _) = newer(&kernel)?;
    image_release(name).map(str::to_owned)
}

/// Is the kernel that runs the one on disk? One whose package is gone can load no modules any more.
pub fn is_installed(settings: &Settings) -> bool {
    let packages = dpkg::database(settings).map(|d| d.packages).unwrap_or_default();
    read(settings, &packages).is_ok_and(|kernel| kernel.from_package && is_on_disk(&kernel))
}

/// A package of the running release has the running version, as far as the kernel tells it.
fn is_on_disk(kernel: &Kernel) -> bool {
    let of_release = |name: &str| image_release(name) == Some(&kernel.running);
    let mut found = kernel.installed.iter().filter(|(name, _)| of_release(name));
    kernel.running_version.is_empty()
        || found.any(|(_, v)| deb::compare_lenient(v, &kernel.running_version).is_eq())
}

/// Why the host owes a reboot: what packages asked for (`/run/reboot-required`), and a newer kernel than the one
/// that runs. Nothing in a container, whose kernel is not its own.
pub(super) fn reboot_needed(settings: &Settings, kernel: &Kernel) -> Vec<String> {
    let mut reasons = Vec::new();
    if settings.host("run/reboot-required").exists() {
        let packages =
            fs::read_to_string(settings.host("run/reboot-required.pkgs")).unwrap_or_default();
        let before = reasons.len();
        reasons.extend(
            packages
                .lines()
                .map(str::trim)
                .filter(|l| !l.is_empty())
                .map(|p| format!("{p} asks for it")),
        );
        if reasons.len() == before {
            reasons.push("/run/reboot-required is there".to_owned());
        }
    }
    reasons.extend(newer_kernel(kernel));
    reasons
}

fn newer_kernel(kernel: &Kernel) -> Option<String> {
    let (name, version) = newer(kernel)?;
    let running = &kernel.running_version;
    let running = if running.is_empty() { &kernel.running } else { running };
    Some(format!("{name} {version} is installed, the running kernel is {running}"))
}

/// The image of the running kernel's flavour that is newer than it: package, version.
fn newer(kernel: &Kernel) -> Option<(&str, &str)> {
    if !kernel.from_package {
        return None;
    }
    let flavour = |release: &str| release.rsplit('-').next().unwrap_or_default().to_owned();
    let running_flavour = flavour(&kernel.running);
    let (name, version) = kernel
        .installed
        .iter()
        .filter(|(name, _)| image_release(name).is_some_and(|r| flavour(r) == running_flavour))
        .max_by(|a, b| deb::compare_lenient(a.1, b.1))?;
    let running = if kernel.running_version.is_empty() {
        // The kernel does not tell; the package of its release does.
        kernel
            .installed
            .iter()
            .find(|(n, _)| image_release(n) == Some(&kernel.running))
            .map(|(_, v)| v)?
    } else {
        &kernel.running_version
    };
    deb::compare_lenient(version, running).is_gt().then_some((name.as_str(), version.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(running: &str, running_version: &str, installed: &[(&str, &str)]) -> Kernel {
        Kernel {
            running: running.into(),
            running_version: running_version.into(),
            from_package: true,
            installed: installed.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn the_running_kernels_package_version_is_read_from_its_own_words() {
        assert_eq!(
            debian_version("#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)"),
            Some("6.1.119-1")
        );
        assert_eq!(
            debian_version("#52-Ubuntu SMP PREEMPT_DYNAMIC Thu Dec 5 13:09:44 UTC 2024"),
            None
        );
        assert_eq!(debian_version("#1 SMP Debian"), None);
        assert_eq!(debian_version(""), None);
    }

    #[test]
    fn metapackages_and_debug_images_are_no_kernels() {
        assert_eq!(image_release("linux-image-6.1.0-28-amd64"), Some("6.1.0-28-amd64"));
        assert_eq!(
            image_release("linux-image-unsigned-6.8.0-50-generic"),
            Some("6.8.0-50-generic")
        );
        for no in
            ["linux-image-amd64", "linux-image-6.1.0-28-amd64-dbg", "linux-headers-6.1.0-28-amd64"]
        {
            assert_eq!(image_release(no), None, "{no}");
        }
    }

    #[test]
    fn a_newer_kernel_on_disk_owes_a_reboot_whether_its_name_changed_or_not() {
        let same_name =
            kernel("6.1.0-28-amd64", "6.1.119-1", &[("linux-image-6.1.0-28-amd64", "6.1.124-1")]);
        assert!(newer_kernel(&same_name).is_some());
        let other_name = kernel(
            "6.1.0-9-amd64",
            "6.1.27-1",
            &[
                ("linux-image-6.1.0-9-amd64", "6.1.27-1"),
                ("linux-image-6.1.0-28-amd64", "6.1.119-1"),
            ],
        );
        assert!(newer_kernel(&other_name).unwrap().contains("6.1.119-1"));
        let newest =
            kernel("6.1.0-28-amd64", "6.1.119-1", &[("linux-image-6.1.0-28-amd64", "6.1.119-1")]);
        assert_eq!(newer_kernel(&newest), None);
        let other_flavour = kernel(
            "6.1.0-28-amd64",
            "6.1.119-1",
            &[
                ("linux-image-6.1.0-28-amd64", "6.1.119-1"),
                ("linux-image-6.1.0-30-rt", "6.1.124-1"),
            ],
        );
        assert_eq!(newer_kernel(&other_flavour), None);
        assert!(is_on_disk(&newest) && !is_on_disk(&same_name) && is_on_disk(&other_name));
        let gone =
            kernel("6.1.0-30-amd64", "6.1.124-1", &[("linux-image-6.1.0-9-amd64", "6.1.27-1")]);
        assert!(!is_on_disk(&gone));
        let mut container = other_name;
        container.from_package = false;
        assert_eq!(newer_kernel(&container), None);
    }
}
