//! Booting a host, and the ways in which it stops.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::LabHost;
use crate::LabError;
use crate::disk;
use crate::process::{POLL, ProcessId, container_init, poll_until};

/// A host that has come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// What `systemctl is-system-running` says: `running` or `degraded`.
    pub state: String,
    /// Units that failed; none when `running`.
    pub failed: Vec<String>,
    /// How long was waited.
    pub took: Duration,
}

/// Boots the container, again when the host asks for a reboot (status 133), each time in a control
/// group of its own. The keeper stays beside them: a group with processes can have no controllers.
///
/// A host holds every mount that it was born with, hidden below its own root. So it is born without the disks of
/// other labs: they could not be taken down while it lives.
const KEEPER: &str = r#"
group=$0 own=$1 boot=0
shift
mounts=$(cat /proc/mounts)
echo "$mounts" | while read -r what where rest; do
  case "$what" in /dev/loop*) ;; *) continue ;; esac
  case "$where" in "$own"/*) ;; *) umount -l "$where" ;; esac
done
mkdir "$group/keeper" && echo $$ > "$group/keeper/cgroup.procs" || exit 1
while :; do
  boot=$((boot + 1))
  mkdir "$group/boot-$boot" || exit 1
  sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$group/boot-$boot" systemd-nspawn "$@"
  [ $? -eq 133 ] || exit
done
"#;

impl LabHost {
    /// Starts booting the host; at once when it runs already. [`LabHost::wait_booted`] waits.
    pub fn boot(&self) -> Result<(), LabError> {
        self.inner.owned("booting a host")?;
        if self.supervisor().is_some() {
            return Ok(());
        }
        let config = &self.inner.config;
        self.inner.groups.clear_host(&self.name)?;
        let group = self.inner.groups.create(&self.name)?;
        let consoles = config.consoles();
        fs::create_dir_all(&consoles).map_err(LabError::io("make", &consoles))?;
        let log = self.console_file();
        let console = File::create(&log).map_err(LabError::io("make", &log))?;
        let errors = console.try_clone().map_err(LabError::io("open", &log))?;

        // A session of its own: Ctrl-C at a terminal is for the program, not for its hosts.
        let mut command = Command::new("setsid");
        command
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", KEEPER])
            .args([&group, &config.dir])
            .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only"])
            .arg(format!("--directory={}", self.root().display()))
            .arg(format!("--machine={}", config.machine(&self.name)))
            .arg(format!("--hostname={}", self.name))
            .arg(format!("--network-bridge={}", config.bridge()))
            .args(
                disk::parts(&self.root())
                    .into_iter()
                    .map(|(part, place)| format!("--bind={}:{place}", part.display())),
            )
            .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
            // Hosts may call what a real one may: new mount calls, landlock, io_uring, keyrings.
            .arg("--system-call-filter=@known")
            // A pure cgroup2 tree, as on a real Debian 12, whatever this machine has.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        let child =
            command.spawn().map_err(LabError::io("start systemd-nspawn for", &self.root()))?;
        let supervisor = ProcessId::of(child.id());
        if let Some(mut old) = self.inner.lock_children().insert(self.name.clone(), child) {
            // Of an earlier boot, and gone: this only takes its status.
            let _ = old.try_wait();
        }
        self.inner.change(|state| {
            if let Some(record) = state.hosts.get_mut(&self.name) {
                record.supervisor = supervisor;
            }
            Ok(())
        })?;
        let patience = Duration::from_secs(20);
        let begun = poll_until(Instant::now() + patience, || {
            self.leader_pid().is_some() || self.supervisor().is_none()
        });
        if begun && self.leader_pid().is_some() {
            return Ok(());
        }
        Err(LabError::NotRunning { host: self.name.clone(), console: self.console() })
    }

    /// Waits until systemd in the host says that booting is finished.
    pub fn wait_booted(&self, patience: Duration) -> Result<Booted, LabError> {
        let started = Instant::now();
        let mut state = "nothing yet".to_owned();
        loop {
            if self.supervisor().is_none() {
                return Err(LabError::NotRunning {
                    host: self.name.clone(),
                    console: self.console(),
                });
            }
            // Until its bus is there the call fails; that is an answer too.
            let asked = self.command("systemctl").arg("is-system-running");
            if let Ok(output) = asked.timeout(Duration::from_secs(20)).run() {
                state = output.stdout.trim().to_owned();
                if matches!(state.as_str(), "running" | "degraded") {
                    break;
                }
            }
            if started.elapsed() >= patience {
                return Err(LabError::BootTimeout {
                    host: self.name.clone(),
                    waited: patience,
                    state,
                    console: self.console(),
                });
            }
            std::thread::sleep(POLL * 4);
        }
        let took = started.elapsed();
        let failed = if state == "degraded" {
            let units = self.exec(&["systemctl", "--failed", "--no-legend", "--plain"])?;
            units
                .stdout
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .map(str::to_owned)
                .collect()
        } else {
            Vec::new()
        };
        Ok(Booted { state, failed, took })
    }

    /// Whether the host runs.
    pub fn is_running(&self) -> bool {
        self.leader_pid().is_some()
    }

    /// Pid, on this machine, of the host's first process; `None` when it does not run. It changes
    /// when the host reboots.
    pub fn leader_pid(&self) -> Option<u32> {
        container_init(self.supervisor()?.pid)
    }

    /// The control group of the running boot, which systemd in the host sees as the root of all.
    pub(super) fn payload(leader: u32) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{leader}/cgroup")).ok()?;
        let own = Path::new(text.lines().find_map(|line| line.strip_prefix("0::"))?);
        own.ancestors().find(|group| group.ends_with("payload")).map(Path::to_path_buf)
    }

    fn supervisor(&self) -> Option<ProcessId> {
        if let Some(child) = self.inner.lock_children().get_mut(&self.name) {
            // Takes the status of one that ended.
            let _ = child.try_wait();
        }
        let state = self.inner.state().ok()?;
        state.hosts.get(&self.name)?.supervisor.filter(|supervisor| supervisor.alive())
    }

    /// Shuts the host down in order and waits until it is off.
    pub fn power_off(&self) -> Result<(), LabError> {
        self.inner.owned("powering a host off")?;
        if !self.is_running() {
            return Ok(());
        }
        // Its connection may be cut before it can answer.
        let _ = self.command("systemctl").arg("poweroff").timeout(Duration::from_secs(20)).run();
        let patience = Duration::from_secs(90);
        if !poll_until(Instant::now() + patience, || self.supervisor().is_none()) {
            return Err(LabError::Stuck {
                what: format!("host {}", self.name),
                waited: patience,
                detail: self.console(),
            });
        }
        self.stopped()
    }

    /// Reboots the host in order and waits until it is up again.
    pub fn reboot(&self, patience: Duration) -> Result<Booted, LabError> {
        let before = self.leader_pid();
        let _ = self.command("systemctl").arg("reboot").timeout(Duration::from_secs(20)).run();
        let started = Instant::now();
        let again = poll_until(started + patience, || {
            let now = self.leader_pid();
            (now.is_some() && now != before) || self.supervisor().is_none()
        });
        if !again {
            return Err(LabError::BootTimeout {
                host: self.name.clone(),
                waited: patience,
                state: "still the boot from before".to_owned(),
                console: self.console(),
            });
        }
        let mut booted = self.wait_booted(patience.saturating_sub(started.elapsed()))?;
        booted.took = started.elapsed();
        Ok(booted)
    }

    /// Kills the host with everything in it, at once, as when a machine is switched off (but what
    /// was written stays written: the file system is not cut).
    pub fn kill(&self) -> Result<(), LabError> {
        self.inner.owned("killing a host")?;
        self.stopped()
    }

    /// Cuts the power: the host is gone at once, and what its ext4 root had not written to its disk is lost. It is off
    /// afterwards; `boot` switches it on again.
    ///
    /// # Errors
    /// When the root is not an ext4 image of its own, or cannot be mounted again.
    pub fn power_cut(&self) -> Result<(), LabError> {
        self.inner.owned("cutting a host's power")?;
        disk::cut(&self.inner.config, &self.root())?;
        self.kill()?;
        disk::mount_again(&self.inner.config, &self.root())
    }

    /// Ends what is left of a boot.
    fn stopped(&self) -> Result<(), LabError> {
        self.inner.groups.clear_host(&self.name)?;
        if let Some(mut child) = self.inner.lock_children().remove(&self.name) {
            let _ = child.wait();
        }
        let runtime = Path::new("/run/systemd/nspawn/propagate");
        let runtime = runtime.join(self.inner.config.machine(&self.name));
        if runtime.is_dir() {
            fs::remove_dir_all(&runtime).map_err(LabError::io("remove", &runtime))?;
        }
        self.inner.change(|state| {
            if let Some(record) = state.hosts.get_mut(&self.name) {
                record.supervisor = None;
            }
            Ok(())
        })
    }
}
