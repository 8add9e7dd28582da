//! A virtual machine: a host with a disk, a boot loader and a kernel of its own, for what no container can show.
//!
//! It runs under emulation (QEMU's TCG), so it needs nothing of the machine's processor, and takes its time: a boot is
//! about half a minute. Its disk is a copy-on-write layer over an image that is made once from the lab's base, with the
//! older of the two kernels that the package sources offer. It is talked to by ssh over a forwarded port.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::write;
use crate::lab::Inner;
use crate::process::{POLL, poll_until};
use crate::requirements::Requirement;
use crate::tool::{Tool, entering, last_lines};
use crate::{HostSpec, Lab, LabError, Say, requirements};

/// What machines need beside what hosts need.
const NEEDED: &[Requirement] = &[
    Requirement {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        reason: "emulates a machine with a kernel of its own",
    },
    Requirement {
        program: "sfdisk",
        package: "fdisk",
        reason: "partitions the disks of emulated machines",
    },
    Requirement { program: "ssh", package: "openssh-client", reason: "talks to emulated machines" },
];
/// Name of the host from whose root the image is made.
const FORGE: &str = "forge";
/// Size of the disk, in MiB.
const DISK: u64 = 3072;
/// Where its partition begins, in bytes.
const START: u64 = 1 << 20;
/// An emulated boot may take so long, whatever else runs.
const BOOTS: Duration = Duration::from_secs(400);
/// Installs the older kernel, and GRUB's programs without its configuration: that is made on the machine itself.
const FURNISH: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
old=$(apt-cache madison linux-image-cloud-amd64 | awk '{ print $3 }' | sort -V | head -1)
image=$(apt-cache depends "linux-image-cloud-amd64=$old" | awk '/Depends:/ { print $2; exit }')
apt-get install -y -qq --no-install-recommends "linux-image-cloud-amd64=$old" "$image" initramfs-tools grub2-common grub-pc-bin grub-common openssh-server
cat > /etc/default/grub <<'EOF'
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="console=ttyS0 net.ifnames=0"
GRUB_TERMINAL=serial
EOF
# What an emulated processor would spend minutes on: modules it has no devices for, a session for each log-in.
mkdir -p /etc/initramfs-tools/conf.d
echo MODULES=list > /etc/initramfs-tools/conf.d/small
printf 'virtio_pci\nvirtio_blk\next4\n' >> /etc/initramfs-tools/modules
update-initramfs -u
echo 'UsePAM no' > /etc/ssh/sshd_config.d/plain.conf
rm -f /etc/systemd/network/*
printf '[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\n' > /etc/systemd/network/10-eth0.network
systemctl enable -q ssh systemd-networkd serial-getty@ttyS0
sync
"#;

/// A virtual machine; a handle, as [`crate::LabHost`] is.
#[derive(Debug, Clone)]
pub struct Machine {
    inner: Arc<Inner>,
    name: String,
    port: u16,
}

impl Lab {
    /// A new machine, booted. The image it is made from is kept with the base; it takes some minutes the first time.
    ///
    /// # Errors
    /// When something it needs cannot be had, or it does not boot.
    pub fn machine(&self, name: &str, say: Say<'_>) -> Result<Machine, LabError> {
        requirements::ensure(NEEDED, say)?;
        let image = self.machine_image(say)?;
        let machine = Machine::new(&self.inner, name)?;
        let disk = machine.disk();
        fs::create_dir_all(self.inner.config.host_images())
            .map_err(LabError::io("make", &self.inner.config.host_images()))?;
        // Most of the image is a hole. QEMU's own tool would spare the copy, but comes from a package of its own that
        // may be there in another version, and then keeps the emulator out.
        Tool::new("cp", "making a machine's disk")
            .args(["--sparse=always", "--reflink=auto"])
            .args([&image, &disk])
            .run()?;
        machine.power_on(&[])?;
        Ok(machine)
    }

    /// The image, made if there is none of this base.
    fn machine_image(&self, say: Say<'_>) -> Result<PathBuf, LabError> {
        let base = self.ensure_base(say)?;
        let config = &self.inner.config;
        let stem = base.root(config).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let image = config.dir.join(format!("machine-{stem}.img"));
        let key = config.dir.join("machine-key");
        if image.is_file() && key.is_file() {
            return Ok(image);
        }
        say("making the image of emulated machines: some minutes, once");
        let fresh = config.dir.join("machine.img.new");
        for file in [&key, &key.with_extension("pub"), &fresh] {
            let _ = fs::remove_file(file);
        }
        Tool::new("ssh-keygen", "making a key for the machines")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .run()?;
        let spec = HostSpec { boot: true, ..HostSpec::default() };
        let forge = self.create_hosts(&[FORGE], &spec, say)?.remove(0);
        let made = (|| {
            let public = key.with_extension("pub");
            let public = fs::read_to_string(&public).map_err(LabError::io("read", &public))?;
            forge
                .sh(&format!(
                    "mkdir -p -m 700 /root/.ssh && echo '{}' > /root/.ssh/authorized_keys",
                    public.trim()
                ))?
                .ok()?;
            forge.command("sh").args(["-c", FURNISH]).timeout(BOOTS * 2).run()?.ok()?;
            forge.power_off()?;
            write(&forge.root().join("etc/hostname"), "machine\n")?;
            write(&forge.root().join("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 machine\n")?;
            write(
                &forge.root().join("etc/fstab"),
                "/dev/vda1 / ext4 defaults,errors=remount-ro 0 1\n",
            )?;
            partition(&fresh, &forge.root())?;
            let kernel = one(&forge.root().join("boot"), "vmlinuz-")?;
            let initrd = one(&forge.root().join("boot"), "initrd.img-")?;
            self.install_boot_loader(&fresh, &kernel, &initrd)
        })();
        forge.destroy()?;
        made?;
        fs::rename(&fresh, &image).map_err(LabError::io("name", &image))?;
        Ok(image)
    }

    /// Boots the image once with a kernel given from outside, and has it install GRUB on its own disk.
    fn install_boot_loader(
        &self,
        image: &Path,
        kernel: &Path,
        initrd: &Path,
    ) -> Result<(), LabError> {
        let machine = Machine::new(&self.inner, FORGE)?;
        let text = |path: &Path| path.display().to_string();
        let first = [
            "-kernel".to_owned(),
            text(kernel),
            "-initrd".to_owned(),
            text(initrd),
            "-append".to_owned(),
            "root=/dev/vda1 ro console=ttyS0 net.ifnames=0".to_owned(),
        ];
        machine.start(image, &first)?;
        machine.wait_up(BOOTS)?;
        machine.sh("grub-install /dev/vda && update-grub && apt-get clean && sync", BOOTS)?;
        machine.power_off()
    }
}

/// A disk with one partition that holds a copy of `root`.
fn partition(image: &Path, root: &Path) -> Result<(), LabError> {
    let file = File::create(image).map_err(LabError::io("make", image))?;
    file.set_len(DISK << 20).map_err(LabError::io("size", image))?;
    drop(file);
    Tool::new("sfdisk", "partitioning the machine's disk")
        .arg("-q")
        .arg(image)
        .stdin("label: dos\nstart=2048, type=83, bootable\n")
        .run()?;
    Tool::new("mkfs.ext4", "copying the base to the machine's disk")
        .args(["-q", "-F", "-E", &format!("offset={START}"), "-d"])
        .args([root, image])
        .arg(format!("{}M", DISK - (START >> 20)))
        .run()
        .map(drop)
}

/// The one file in `directory` whose name begins so.
fn one(directory: &Path, start: &str) -> Result<PathBuf, LabError> {
    let entries = fs::read_dir(directory).map_err(LabError::io("list", directory))?;
    let mut found = entries.flatten().map(|e| e.path());
    let of =
        |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start));
    found.find(of).ok_or_else(|| LabError::Fleet {
        what: format!(
            "there is no {start}… in {}: the kernel was not installed",
            directory.display()
        ),
    })
}

impl Machine {
    fn new(inner: &Arc<Inner>, name: &str) -> Result<Self, LabError> {
        inner.owned("making a machine")?;
        // Whoever takes the port in this moment makes QEMU fail, and that is told.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = port.map_err(LabError::io("find a free port for", &inner.config.dir))?.port();
        Ok(Self { inner: Arc::clone(inner), name: name.to_owned(), port })
    }

    fn disk(&self) -> PathBuf {
        self.inner.config.host_images().join(format!("{}.disk", self.name))
    }

    fn group(&self) -> String {
        format!("machine-{}", self.name)
    }

    fn console_file(&self) -> PathBuf {
        self.inner.config.consoles().join(format!("{}.log", self.group()))
    }

    /// What it last printed on its console.
    pub fn console(&self, lines: usize) -> String {
        last_lines(&fs::read(self.console_file()).unwrap_or_default(), lines)
    }

    /// Switches it on and waits until it can be talked to.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_on(&self, more: &[String]) -> Result<(), LabError> {
        self.start(&self.disk(), more)?;
        self.wait_up(BOOTS)
    }

    fn start(&self, disk: &Path, more: &[String]) -> Result<(), LabError> {
        let group = self.inner.groups.create(&self.group())?;
        let consoles = self.inner.config.consoles();
        fs::create_dir_all(&consoles).map_err(LabError::io("make", &consoles))?;
        let log = self.console_file();
        let console = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(LabError::io("make", &log))?;
        let errors = console.try_clone().map_err(LabError::io("open", &log))?;
        let mut command: Command = entering(&group, "qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024", "-display", "none"])
            .args(["-serial", "stdio", "-monitor", "none", "-device", "virtio-rng-pci"])
            .arg("-drive")
            .arg(format!("file={},if=virtio,format=raw,discard=unmap", disk.display()))
            .arg("-netdev")
            .arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{}-:22", self.port))
            .args(["-device", "virtio-net-pci,netdev=net"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        let child = command.spawn().map_err(LabError::io("start QEMU on", disk))?;
        if let Some(mut old) = self.inner.lock_children().insert(self.group(), child) {
            let _ = old.try_wait();
        }
        Ok(())
    }

    /// Is it switched on?
    pub fn is_on(&self) -> bool {
        let mut children = self.inner.lock_children();
        children.get_mut(&self.group()).is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until it answers by ssh.
    ///
    /// # Errors
    /// When it does not in that time; with the last lines of its console.
    pub fn wait_up(&self, patience: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && self.is_on() {
            if self.ssh("true", Duration::from_secs(20)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(POLL * 10);
        }
        Err(LabError::BootTimeout {
            host: self.name.clone(),
            waited: patience,
            state: "no answer by ssh".to_owned(),
            console: self.console(25),
        })
    }

    /// Runs a script; what it printed.
    ///
    /// # Errors
    /// When it ends with an error or takes too long.
    pub fn sh(&self, script: &str, patience: Duration) -> Result<String, LabError> {
        self.ssh(script, patience)
    }

    fn ssh(&self, script: &str, patience: Duration) -> Result<String, LabError> {
        Tool::new("timeout", format!("running a script on machine {}", self.name))
            .arg(patience.as_secs().to_string())
            .arg("ssh")
            .args(self.options())
            .args(["-p", &self.port.to_string(), "root@127.0.0.1", "sh", "-s"])
            .stdin(script)
            .run()
    }

    fn options(&self) -> Vec<String> {
        let key = self.inner.config.dir.join("machine-key");
        let mut options = vec!["-q".to_owned(), "-i".to_owned(), key.display().to_string()];
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=12",
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// Copies a file in.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy_in(&self, from: &Path, to: &str) -> Result<(), LabError> {
        Tool::new("scp", format!("copying {} to machine {}", from.display(), self.name))
            .args(self.options())
            .args(["-P", &self.port.to_string()])
            .arg(from)
            .arg(format!("root@127.0.0.1:{to}"))
            .run()
            .map(drop)
    }

    /// Changes with every boot; `None`: it cannot be asked now.
    pub fn boot_id(&self) -> Option<String> {
        self.ssh("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(20)).ok()
    }

    /// Every file, as a line of its own: kind, mode, owner, link's target, hash. Made on the machine, by its own tools.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn tree(&self, excluded: &[&str]) -> Result<BTreeMap<String, String>, LabError> {
        let prune: Vec<String> = excluded.iter().map(|path| format!("-path {path}")).collect();
        let script = format!(
            "find / -xdev \\( {} \\) -prune -o -printf '%p\\t%y %m %U:%G %l\\n'; echo =; \
             find / -xdev \\( {} \\) -prune -o -type f -print0 | xargs -0 sha256sum",
            prune.join(" -o "),
            prune.join(" -o ")
        );
        let said = self.sh(&script, BOOTS)?;
        let (files, hashes) = said.split_once("\n=\n").unwrap_or((&said, ""));
        let mut tree: BTreeMap<String, String> = files
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(path, what)| (path.to_owned(), what.to_owned()))
            .collect();
        for (hash, path) in hashes.lines().filter_map(|line| line.split_once("  ")) {
            if let Some(what) = tree.get_mut(path) {
                what.push_str(hash);
            }
        }
        Ok(tree)
    }

    /// Shuts it down in order.
    ///
    /// # Errors
    /// When it is still on after some minutes.
    pub fn power_off(&self) -> Result<(), LabError> {
        // Its connection is cut before it can answer.
        let _ = self.ssh("systemctl poweroff", Duration::from_secs(30));
        if !poll_until(Instant::now() + BOOTS, || !self.is_on()) {
            return Err(LabError::Stuck {
                what: format!("machine {}", self.name),
                waited: BOOTS,
                detail: self.console(15),
            });
        }
        self.power_cut()
    }

    /// Switches it off at once.
    ///
    /// # Errors
    /// When its processes cannot be killed.
    pub fn power_cut(&self) -> Result<(), LabError> {
        self.inner.groups.clear_host(&self.group())?;
        if let Some(mut child) = self.inner.lock_children().remove(&self.group()) {
            let _ = child.wait();
        }
        Ok(())
    }

    /// Switches it off and removes it.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn destroy(&self) -> Result<(), LabError> {
        self.power_cut()?;
        for file in [self.disk(), self.console_file()] {
            if file.exists() {
                fs::remove_file(&file).map_err(LabError::io("remove", &file))?;
            }
        }
        Ok(())
    }
}
