//! Building the clone: overlays over the host's file systems, and a `/dev`, `/proc`, `/run` of its own.

use super::Spec;
use super::mounts::{Mount, mounts};
use crate::command;
use crate::host_path::HostPath;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One overlay of the clone.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Where on the host.
    pub(super) point: PathBuf,
    /// The host's own files.
    pub(super) lower: PathBuf,
    /// What changed.
    pub(super) upper: PathBuf,
    /// Paths that building the clone made: not the change's.
    pub(super) ours: Vec<HostPath>,
}

/// Where the clone's own tools and records lie, seen from inside.
pub(super) const TOOLS: &str = "/run/fettle-rehearsal";
/// Asked by `invoke-rc.d` and `deb-systemd-invoke` before they start anything (Debian, invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Largest file system without overlay support (`vfat` of `/boot/efi`) that is copied instead, in bytes.
const COPY: u64 = 256 << 20;

/// Builds the clone; gives its root, its layers, and what could not be cloned.
pub(super) fn build(spec: &Spec) -> io::Result<(PathBuf, Vec<Layer>, Vec<String>)> {
    let host = mounts()?;
    let space = spec.scratch.join("space");
    let root = spec.scratch.join("root");
    for directory in [&space, &root] {
        fs::create_dir_all(directory)?;
    }
    if let Some(bytes) = spec.memory {
        let options = CString::new(format!("size={bytes},mode=0700"))?;
        mount("fettle", &space, "tmpfs", MountFlags::empty(), &*options)
            .map_err(at(&space, "mount a tmpfs at"))?;
    }
    let mut layers = vec![layer(Path::new("/"), &space, 0)?];
    overlay(&layers[0], &root).map_err(at(Path::new("/"), "lay an overlay over"))?;
    let mut gaps = Vec::new();
    for (n, point) in host.iter().filter(|m| m.holds_files()).enumerate() {
        match submount(point, &space, n + 1, &root) {
            Ok(Some(layer)) => layers.push(layer),
            Ok(None) => {}
            Err(e) => gaps.push(format!("{}: {e}", point.point.display())),
        }
    }
    system_directories(spec, &root)?;
    run_directory(&root)?;
    hide_state(spec, &space, &root)?;
    tools(spec, &root, &mut layers)?;
    Ok((root, layers, gaps))
}

fn at<'a>(path: &'a Path, what: &'a str) -> impl FnOnce(rustix::io::Errno) -> io::Error + 'a {
    move |e| {
        io::Error::new(io::Error::from(e).kind(), format!("cannot {what} {}: {e}", path.display()))
    }
}

fn layer(point: &Path, space: &Path, number: usize) -> io::Result<Layer> {
    let own = space.join(number.to_string());
    let upper = own.join("upper");
    for directory in [&own, &upper, &own.join("work")] {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    // The root of the clone has the attributes of the upper layer's root.
    let now = fs::metadata(point)?;
    std::os::unix::fs::lchown(&upper, Some(now.uid()), Some(now.gid()))?;
    fs::set_permissions(&upper, now.permissions())?;
    Ok(Layer { point: point.to_owned(), lower: point.to_owned(), upper, ours: Vec::new() })
}

fn overlay(layer: &Layer, target: &Path) -> rustix::io::Result<()> {
    let work = layer.upper.with_file_name("work");
    let mut options = b"index=off,metacopy=off,redirect_dir=off,lowerdir=".to_vec();
    for (name, path) in [("", &layer.lower), (",upperdir=", &layer.upper), (",workdir=", &work)] {
        options.extend_from_slice(name.as_bytes());
        for byte in path.as_os_str().as_bytes() {
            if b"\\:,".contains(byte) {
                options.push(b'\\');
            }
            options.push(*byte);
        }
    }
    let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    mount("fettle", target, "overlay", MountFlags::empty(), &*options)
}

/// A file system mounted below the root: an overlay of its own; where it cannot be a lower layer, a copy if it
/// is small, else itself, read-only.
fn submount(host: &Mount, space: &Path, number: usize, root: &Path) -> io::Result<Option<Layer>> {
    let inside = HostPath(host.point.clone()).below(root);
    let Ok(found) = fs::metadata(&host.point) else { return Ok(None) }; // unreachable for the host as well
    if found.is_file() {
        if fs::symlink_metadata(&inside).is_err() {
            return Ok(None);
        }
        mount_bind(&host.point, &inside).map_err(at(&host.point, "show the file"))?;
        read_only(&inside)?;
        return Ok(None);
    }
    if fs::symlink_metadata(&inside).is_err() {
        return Ok(None); // a mount inside something that is not cloned
    }
    let mut layer = layer(&host.point, space, number)?;
    match overlay(&layer, &inside) {
        Ok(()) => return Ok(Some(layer)),
        Err(_) if used(&host.point)? <= COPY => {
            // The copy is the lower layer, so that only what changes counts as the change.
            let copy = layer.upper.with_file_name("copy");
            let copied = Command::new("cp")
                .args(["-a", "--"])
                .args([&host.point.join("."), &copy])
                .env("PATH", command::PATH)
                .status()?;
            layer.lower = copy;
            if copied.success() && overlay(&layer, &inside).is_ok() {
                return Ok(Some(layer));
            }
        }
        Err(_) => {}
    }
    mount_bind(&host.point, &inside).map_err(at(&host.point, "show"))?;
    read_only(&inside)?;
    Err(io::Error::other(format!("{} can be no lower layer: read-only in the clone", host.kind)))
}

fn used(point: &Path) -> io::Result<u64> {
    let fs = rustix::fs::statvfs(point)?;
    Ok((fs.f_blocks - fs.f_bfree) * fs.f_frsize)
}

fn read_only(path: &Path) -> io::Result<()> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, c"")
        .map_err(at(path, "make read-only"))
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn system_directories(spec: &Spec, root: &Path) -> io::Result<()> {
    let proc = root.join("proc");
    mount("proc", &proc, "proc", MountFlags::empty(), None).map_err(at(&proc, "mount"))?;
    // What a network namespace of its own allows is its own; everything else under /proc/sys is the host's.
    if !spec.online {
        let _ = fs::write(proc.join("sys/net/ipv4/ip_nonlocal_bind"), "1");
        let _ = fs::write(proc.join("sys/net/ipv6/ip_nonlocal_bind"), "1");
    }
    for host in ["sys", "sysrq-trigger", "irq", "bus"] {
        let path = proc.join(host);
        if path.exists() {
            mount_bind(&path, &path).map_err(at(&path, "protect"))?;
            read_only(&path)?;
        }
    }
    let sys = root.join("sys");
    if mount("sysfs", &sys, "sysfs", MountFlags::RDONLY, None).is_err() {
        mount_bind_recursive("/sys", &sys).map_err(at(&sys, "show"))?;
        read_only(&sys)?;
    }
    let dev = root.join("dev");
    mount("fettle", &dev, "tmpfs", MountFlags::NOSUID, c"mode=0755,size=1m")
        .map_err(at(&dev, "mount"))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (from, to) = (Path::new("/dev").join(name), dev.join(name));
        if from.exists() {
            fs::write(&to, "")?;
            mount_bind(&from, &to).map_err(at(&to, "show"))?;
        }
    }
    block_devices(Path::new("/dev"), &dev)?;
    directory(&dev.join("pts"), 0o755)?;
    directory(&dev.join("shm"), 0o1777)?;
    let options = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    let _ = mount(
        "devpts",
        dev.join("pts"),
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        options,
    );
    let _ = mount(
        "fettle",
        dev.join("shm"),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=1777",
    );
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(name))?;
    }
    let tmp = root.join("tmp");
    if tmp.is_dir() {
        mount("fettle", &tmp, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")
            .map_err(at(&tmp, "mount"))?;
    }
    // Many configuration tests name an address of loopback. Without the program they meet a dead one. (Where the network
    // is the host's, it is up already.)
    let _ = command::run(command::command("ip").args(["link", "set", "lo", "up"]), None);
    Ok(())
}

/// The names of the host's disks and partitions, each an empty file: scripts ask whether they are there (that of
/// `grub-pc` fails where none is), and nothing can be read from them or written to them.
fn block_devices(host: &Path, dev: &Path) -> io::Result<()> {
    for entry in fs::read_dir(host)?.flatten() {
        let kind = entry.file_type()?;
        let (name, target) = (entry.file_name(), dev.join(entry.file_name()));
        if kind.is_block_device() {
            fs::write(&target, "")?;
        } else if kind.is_dir() && (name == "disk" || name == "mapper") {
            links(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The symbolic links in a directory and below it, as they are.
fn links(from: &Path, to: &Path) -> io::Result<()> {
    directory(to, 0o755)?;
    for entry in fs::read_dir(from)?.flatten() {
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            links(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        }
    }
    Ok(())
}

/// `/run` with the host's directories, so that services find theirs, and none of its sockets and files.
fn run_directory(root: &Path) -> io::Result<()> {
    let run = root.join("run");
    mount("fettle", &run, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
        .map_err(at(&run, "mount"))?;
    copy_directories(Path::new("/run"), &run, 3)?;
    for name in ["lock", "systemd/system", "sshd"] {
        if !run.join(name).exists() {
            directory(&run.join(name), if name == "lock" { 0o1777 } else { 0o755 })?;
        }
    }
    Ok(())
}

fn copy_directories(from: &Path, to: &Path, depth: u32) -> io::Result<()> {
    // Of others' making and not needed: they may hold mounts that do not answer.
    const SKIP: [&str; 5] = ["user", "credentials", "netns", "docker", "containerd"];
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_dir() || SKIP.iter().any(|s| name == OsStr::new(s)) {
            continue;
        }
        let (Ok(metadata), target) = (entry.metadata(), to.join(&name)) else { continue };
        if fs::create_dir(&target).is_ok() {
            std::os::unix::fs::lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
            fs::set_permissions(&target, metadata.permissions())?;
            if depth > 1 {
                // What vanishes while it is copied is not needed.
                let _ = copy_directories(&entry.path(), &target, depth - 1);
            }
        }
    }
    Ok(())
}

/// The agent's state is not there in the clone, but for the archives.
fn hide_state(spec: &Spec, space: &Path, root: &Path) -> io::Result<()> {
    let inside = |path: &Path| HostPath(path.to_owned()).below(root);
    let state = inside(&spec.hidden);
    if state.is_dir() {
        mount("fettle", &state, "tmpfs", MountFlags::NOSUID, c"mode=0755")
            .map_err(at(&state, "hide"))?;
    }
    for (n, path) in spec.shown.iter().enumerate() {
        let target = inside(path);
        fs::create_dir_all(&target)?;
        // Package managers put a lock beside the archives; what is written there is nobody's change.
        overlay(&layer(path, space, 10_000 + n)?, &target).map_err(at(path, "show"))?;
    }
    Ok(())
}

/// `systemctl` and `policy-rc.d` of the clone: they note what the change wants and start nothing.
fn tools(spec: &Spec, root: &Path, layers: &mut [Layer]) -> io::Result<()> {
    let tools = root.join(TOOLS.trim_start_matches('/'));
    directory(&tools.join("bin"), 0o755)?;
    fs::write(
        tools.join("active"),
        spec.active.iter().map(|u| format!("{u}\n")).collect::<String>(),
    )?;
    fs::write(tools.join("wanted"), "")?;
    script(&tools.join("bin/systemctl"), SYSTEMCTL)?;
    for (name, text) in BOOT_LOADER {
        // Hooks ask whether it is there at all.
        if ["usr/sbin", "usr/bin", "sbin"].iter().any(|bin| root.join(bin).join(name).exists()) {
            script(&tools.join("bin").join(name), text)?;
        }
    }
    script(&HostPath::from(POLICY).below(root), POLICY_SCRIPT)?;
    let ours = HostPath::from(POLICY);
    if let Some(layer) =
        layers.iter_mut().filter(|l| ours.0.starts_with(&l.point)).max_by_key(|l| l.point.clone())
    {
        layer.ours.push(ours);
    }
    Ok(())
}

fn script(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The clone has none of the host's disks, so GRUB's programs cannot look at them there, and must never write to one.
/// What they would write into files is touched instead: so it counts as changed, and is kept for the way back.
const BOOT_LOADER: [(&str, &str); 4] = [
    ("update-grub", UPDATE_GRUB),
    ("update-grub2", UPDATE_GRUB),
    ("grub-mkconfig", UPDATE_GRUB),
    ("grub-install", GRUB_INSTALL),
];

const UPDATE_GRUB: &str = "#!/bin/sh
to=/boot/grub/grub.cfg
while [ $# -gt 0 ]; do
    case \"$1\" in
        -o) to=$2; shift ;;
        --output=*) to=${1#--output=} ;;
    esac
    shift
done
[ ! -e \"$to\" ] || echo '# rehearsed' >>\"$to\"
echo \"the menu of GRUB in $to is written on the host only: a rehearsal has no disks\" >&2
";

const GRUB_INSTALL: &str = "#!/bin/sh
find /boot/grub /boot/efi/EFI -type f -exec touch {} + 2>/dev/null
for word; do
    case \"$word\" in
        /dev/*) readlink -f \"$word\" >>/run/fettle-rehearsal/boot-devices ;;
    esac
done
echo 'GRUB is installed on the host only: a rehearsal has no disks' >&2
";

const POLICY_SCRIPT: &str = "#!/bin/sh
# Nothing is started in a rehearsal: 101 is `action forbidden by policy`.
case \"$1\" in --*) shift ;; esac
echo \"$1 $2\" >>/run/fettle-rehearsal/wanted 2>/dev/null
exit 101
";

const SYSTEMCTL: &str = "#!/bin/sh
# What asks about units or changes their enablement is the real thing, offline; what would start, stop or
# reload something is noted.
verb= units=
for word; do
    case \"$word\" in
        -*) ;;
        *) if [ -z \"$verb\" ]; then verb=$word; else units=\"$units $word\"; fi ;;
    esac
done
case \"$verb\" in
    is-active)
        for unit in $units; do
            case \"$unit\" in *.*) ;; *) unit=$unit.service ;; esac
            grep -qxF -- \"$unit\" /run/fettle-rehearsal/active && { echo active; exit 0; }
        done
        echo inactive; exit 3 ;;
    is-failed) exit 1 ;;
    is-system-running) echo running; exit 0 ;;
    start|stop|restart|try-restart|reload|reload-or-restart|try-reload-or-restart|force-reload|condrestart|kill|isolate)
        for unit in $units; do echo \"$unit $verb\" >>/run/fettle-rehearsal/wanted; done
        exit 0 ;;
    daemon-reload|daemon-reexec|reset-failed|set-property|show|status|list-units|'') exit 0 ;;
esac
SYSTEMD_OFFLINE=1 exec /bin/systemctl \"$@\"
";

/// What the change wanted done to units, each once.
pub(super) fn wanted(root: &Path) -> Vec<String> {
    noted(root, "wanted")
}

/// The disks that GRUB would be installed on, each once.
pub(super) fn boot_devices(root: &Path) -> Vec<String> {
    noted(root, "boot-devices")
}

fn noted(root: &Path, name: &str) -> Vec<String> {
    let text =
        fs::read_to_string(root.join(TOOLS.trim_start_matches('/')).join(name)).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}
