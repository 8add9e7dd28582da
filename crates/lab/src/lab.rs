//! The lab as a whole: open, up, hosts, down.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{self, BaseInfo};
use crate::cgroup::Cgroups;
use crate::disk::{self, Storage};
use crate::host::RootFs;
use crate::state::{HostRecord, State};
use crate::{
    HostSpec, LabConfig, LabError, LabHost, Leftover, Say, leftovers, network, process,
    requirements, settings,
};

/// How long [`Lab::up`] waits for its hosts.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// A lab: the hosts under one directory. See the crate's documentation for an example.
///
/// Dropping a lab leaves its hosts running, so that one process can bring them up and another use
/// them; [`Lab::down`] removes them.
#[derive(Debug, Clone)]
pub struct Lab {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: LabConfig,
    pub(crate) groups: Cgroups,
    /// Held for as long as the lab is open; `None` when only attached to.
    lock: Option<File>,
    /// Guards the state file between the threads of this process.
    changing: Mutex<()>,
    /// Supervisors started by this process, to be waited for.
    pub(crate) children: Mutex<HashMap<String, Child>>,
}

/// Why labs cannot be used here and now, or `None` when they can. Tests print it and skip.
pub fn why_not() -> Option<String> {
    if std::env::var_os("FETTLE_LAB").is_some_and(|value| value == "0") {
        return Some("FETTLE_LAB=0 is set".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("real hosts need root".to_owned());
    }
    None
}

impl Lab {
    /// Bytes that are left on the file system that the lab lies on. `None`: it does not say.
    pub(crate) fn room(&self) -> Option<u64> {
        let of = rustix::fs::statvfs(&self.config().dir).ok()?;
        Some(of.f_bavail * of.f_frsize)
    }

    /// Opens a lab for changing it. One process at a time can.
    pub fn open(config: LabConfig) -> Result<Self, LabError> {
        let mut lab = Self::prepare(config)?;
        fs::create_dir_all(&lab.config.dir).map_err(LabError::io("make", &lab.config.dir))?;
        let path = lab.config.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(LabError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = if holder.is_empty() { "another process".into() } else { holder };
                return Err(LabError::Busy { dir: lab.config.dir, holder });
            }
            Err(TryLockError::Error(error)) => return Err(LabError::io("lock", &path)(error)),
        }
        let program = std::env::args().next().unwrap_or_default();
        let program =
            Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let holder = format!("{program} (process {})", std::process::id());
        fs::write(&path, holder).map_err(LabError::io("write", &path))?;
        lab.lock = Some(file);
        network::check_owner(&lab.config)?;
        Ok(Self { inner: Arc::new(lab) })
    }

    /// Attaches to a lab to use the hosts another process brought up: commands and files in them,
    /// nothing that adds or removes any.
    pub fn attach(config: LabConfig) -> Result<Self, LabError> {
        Ok(Self { inner: Arc::new(Self::prepare(config)?) })
    }

    fn prepare(config: LabConfig) -> Result<Inner, LabError> {
        config.check()?;
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let groups = Cgroups::find(&config.prefix)?;
        Ok(Inner {
            config,
            groups,
            lock: None,
            changing: Mutex::new(()),
            children: Mutex::default(),
        })
    }

    /// The settings this lab was opened with.
    pub fn config(&self) -> &LabConfig {
        &self.inner.config
    }

    /// The machine's address on the lab's bridge: where a server on this machine is reachable from
    /// the hosts (listen on it or on all addresses).
    pub fn gateway_ip(&self) -> Ipv4Addr {
        self.inner.config.subnet.gateway()
    }

    /// Installs the Debian packages the lab needs and the machine lacks; says what and why.
    pub fn ensure_requirements(&self, say: Say<'_>) -> Result<(), LabError> {
        self.inner.owned("installing packages")?;
        requirements::ensure(requirements::REQUIREMENTS, say)
    }

    /// Mounts the lab's disk. Called by everything that needs it.
    pub fn ensure_disk(&self) -> Result<Storage, LabError> {
        self.inner.owned("mounting the disk")?;
        disk::up(&self.inner.config)
    }

    /// Makes sure there is a young base system: about a minute the first time, then at once.
    pub fn ensure_base(&self, say: Say<'_>) -> Result<BaseInfo, LabError> {
        if let Storage::Copies { why } = self.ensure_disk()? {
            say(&format!("hosts are plain copies, slower and larger than snapshots: {why}"));
        }
        base::ensure(&self.inner.config, &self.inner.groups, say)
    }

    /// Brings up everything: requirements, base, network, and the named hosts, booted, side by side.
    pub fn up(
        &self,
        names: &[&str],
        spec: &HostSpec,
        say: Say<'_>,
    ) -> Result<Vec<LabHost>, LabError> {
        self.ensure_requirements(say)?;
        self.ensure_base(say)?;
        self.create_hosts(names, spec, say)
    }

    /// Makes and boots several hosts side by side.
    pub fn create_hosts(
        &self,
        names: &[&str],
        spec: &HostSpec,
        say: Say<'_>,
    ) -> Result<Vec<LabHost>, LabError> {
        let base = self.ready()?;
        // Addresses in the order of the names.
        for name in names {
            self.reserve(name, spec)?;
        }
        let one = |name: &str| {
            let host = self.make(&base, name, spec)?;
            if spec.boot {
                let booted = host.wait_booted(BOOT_PATIENCE)?;
                let address = host.ip();
                say(&format!(
                    "host {name} is up at {address} after {:.1} s",
                    booted.took.as_secs_f64()
                ));
            }
            Ok(host)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || one(name))).collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(host) => host,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        })
    }

    /// Makes one host, and starts booting it unless `spec` says otherwise. The base must be there.
    pub fn create_host(&self, name: &str, spec: &HostSpec) -> Result<LabHost, LabError> {
        let base = self.ready()?;
        self.reserve(name, spec)?;
        self.make(&base, name, spec)
    }

    /// Whether hosts can be made; from which base.
    fn ready(&self) -> Result<BaseInfo, LabError> {
        self.ensure_disk()?;
        self.ensure_network()?;
        let config = &self.inner.config;
        base::current(config).ok_or_else(|| LabError::NoBase { dir: config.dir.clone() })
    }

    /// Puts a host on record before anything of it exists, so that `down` finds it after a crash.
    fn reserve(&self, name: &str, spec: &HostSpec) -> Result<(), LabError> {
        check_name(name)?;
        let subnet = self.inner.config.subnet;
        self.inner.change(|state| {
            if state.hosts.contains_key(name) {
                return Err(LabError::HostExists { name: name.to_owned() });
            }
            let taken =
                |address: &Ipv4Addr| state.hosts.values().any(|host| host.address == *address);
            let free = (11..=250).map(|n| subnet.address(n)).find(|address| !taken(address));
            let address = free.ok_or_else(|| LabError::NoAddress { subnet: subnet.to_string() })?;
            let record = HostRecord { address, root: spec.root, supervisor: None };
            state.hosts.insert(name.to_owned(), record);
            Ok(())
        })
    }

    fn make(&self, base: &BaseInfo, name: &str, spec: &HostSpec) -> Result<LabHost, LabError> {
        let config = &self.inner.config;
        let host = self.host(name)?;
        let made = (|| {
            disk::remove_root(config, &host.root())?;
            disk::create_root(config, &base.root(config), name, spec.root)?;
            host.personalise(spec)?;
            if spec.root == RootFs::Separate {
                disk::separate(&host.root())?;
            }
            if spec.boot { host.boot() } else { Ok(()) }
        })();
        match made {
            Ok(()) => Ok(host),
            Err(error) => {
                // The first error is the one to tell.
                let _ = host.destroy();
                Err(error)
            }
        }
    }

    /// The host called `name`.
    pub fn host(&self, name: &str) -> Result<LabHost, LabError> {
        let state = self.inner.state()?;
        match state.hosts.get(name) {
            Some(record) => Ok(LabHost::new(Arc::clone(&self.inner), name, record.address)),
            None => Err(LabError::NoHost {
                name: name.to_owned(),
                dir: self.inner.config.dir.clone(),
                known: if state.hosts.is_empty() {
                    "none".to_owned()
                } else {
                    state.hosts.keys().cloned().collect::<Vec<_>>().join(", ")
                },
            }),
        }
    }

    /// All hosts, by name, running or not.
    pub fn hosts(&self) -> Result<Vec<LabHost>, LabError> {
        let state = self.inner.state()?;
        let host = |(name, record): (&String, &HostRecord)| {
            LabHost::new(Arc::clone(&self.inner), name, record.address)
        };
        Ok(state.hosts.iter().map(host).collect())
    }

    /// Makes the bridge and the way out; harmless when they are there.
    pub fn ensure_network(&self) -> Result<(), LabError> {
        self.inner.owned("making the network")?;
        let _one_at_a_time = self.inner.lock_changing();
        network::up(&self.inner.config)?;
        let wanting = settings::wanting()?;
        if wanting.is_empty() {
            return Ok(());
        }
        self.inner.change_locked(|state| {
            for (path, (before, value)) in &wanting {
                // The first value on record is the machine's own.
                state.settings.entry(path.clone()).or_insert((*before, *value));
            }
            Ok(())
        })?;
        settings::set(&wanting)
    }

    /// Removes every host and everything of the lab on this machine, also what a run left that was
    /// killed. The base stays cached on disk. Harmless when there is nothing.
    pub fn down(&self, say: Say<'_>) -> Result<(), LabError> {
        self.inner.owned("taking the lab down")?;
        let config = &self.inner.config;
        let _one_at_a_time = self.inner.lock_changing();
        // A record that cannot be read must not keep anything alive.
        let state = State::load(&config.state_file()).unwrap_or_else(|error| {
            say(&error.to_string());
            State::default()
        });
        if !state.hosts.is_empty() {
            let names: Vec<&str> = state.hosts.keys().map(String::as_str).collect();
            say(&format!("taking down {}", names.join(", ")));
        }
        self.inner.groups.clear_all()?;
        let recorded = state.hosts.values().filter_map(|host| host.supervisor);
        let found = process::supervisors(&config.host_roots()).into_iter().map(|(id, _)| id);
        for id in recorded.chain(found) {
            id.kill().map_err(LabError::io("kill a supervisor of", &config.host_roots()))?;
        }
        for (_, mut child) in self.inner.lock_children().drain() {
            // Killed just now; this only takes its status.
            let _ = child.wait();
        }
        self.inner.groups.clear_all()?;
        network::down(config)?;
        match network::others(config) {
            true => settings::hand_over(&state.settings, settings::HANDED_OVER.as_ref())?,
            false => {
                let handed = settings::take_over(settings::HANDED_OVER.as_ref())?;
                settings::restore(&state.settings)?;
                settings::restore(&handed)?;
            }
        }
        leftovers::remove_runtime_files(config)?;
        disk::down(config)?;
        for path in [config.consoles(), config.vendors()] {
            if path.is_dir() {
                fs::remove_dir_all(&path).map_err(LabError::io("remove", &path))?;
            }
        }
        let file = config.state_file();
        if file.exists() {
            fs::remove_file(&file).map_err(LabError::io("remove", &file))?;
        }
        Ok(())
    }

    /// [`Lab::down`], and removes the cached base and the lab's directory too.
    pub fn purge(self, say: Say<'_>) -> Result<(), LabError> {
        self.down(say)?;
        let dir = &self.inner.config.dir;
        fs::remove_dir_all(dir).map_err(LabError::io("remove", dir))
    }

    /// What of the lab is on this machine now: mounts, interfaces, tables, processes, … Must be
    /// empty after [`Lab::down`].
    pub fn leftovers(&self) -> Result<Vec<Leftover>, LabError> {
        leftovers::find(&self.inner.config, &self.inner.groups)
    }
}

impl Inner {
    /// Fails unless the lab was opened (not attached to).
    pub(crate) fn owned(&self, what: &'static str) -> Result<(), LabError> {
        if self.lock.is_some() {
            return Ok(());
        }
        Err(LabError::NotOwner { what, dir: self.config.dir.clone() })
    }

    pub(crate) fn state(&self) -> Result<State, LabError> {
        State::load(&self.config.state_file())
    }

    /// Changes the state file.
    pub(crate) fn change<T>(
        &self,
        how: impl FnOnce(&mut State) -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        let _one_at_a_time = self.lock_changing();
        self.change_locked(how)
    }

    fn change_locked<T>(
        &self,
        how: impl FnOnce(&mut State) -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        let file = self.config.state_file();
        let mut state = State::load(&file)?;
        let result = how(&mut state)?;
        state.save(&file)?;
        Ok(result)
    }

    fn lock_changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_children(&self) -> MutexGuard<'_, HashMap<String, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_name(name: &str) -> Result<(), LabError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = !name.is_empty()
        && name.len() <= 32
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name != "build"
        && name != "vendor";
    if good {
        return Ok(());
    }
    Err(LabError::Setting {
        setting: "host name",
        value: name.to_owned(),
        why: "write 1 to 32 characters of a-z, 0-9 and -, a letter first (and not `build` or `vendor`)".to_owned(),
    })
}
