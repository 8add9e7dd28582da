//! Real Debian hosts on this machine, for the demo, the lab tests and the benchmarks.
//!
//! A [`Lab`] is a bridge, a NAT table and a disk image with one base system; a [`LabHost`] is a
//! copy-on-write copy of that base, booted by `systemd-nspawn` with its own systemd, address, ssh
//! keys and web server. The base is built from the package sources *of the machine it runs on*,
//! release suite only, so real security updates are pending in every host.
//!
//! ```no_run
//! use fettle_lab::{HostSpec, Lab, LabConfig};
//!
//! # fn main() -> Result<(), fettle_lab::LabError> {
//! let lab = Lab::open(LabConfig::from_env()?)?;
//! let say = |line: &str| println!("{line}");
//! let hosts = lab.up(&["web1", "web2"], &HostSpec::default(), &say)?;
//! for host in &hosts {
//!     let pending = host.sh("apt-get -s dist-upgrade | grep -c ^Inst")?.ok()?;
//!     println!("{} at {}: {} upgrades pending", host.name(), host.ip(), pending.trim());
//! }
//! lab.down(&say)?;
//! assert!(lab.leftovers()?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Where things are:
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | where a lab lives and how it is named; `FETTLE_LAB_*` |
//! | [`lab`] | [`Lab`]: open, up, hosts, down |
//! | [`host`] | [`LabHost`]: boot, run commands, files, power |
//! | [`base`] | the base system every host is copied from |
//! | [`disk`] | host roots as btrfs snapshots, ext4 images or plain copies |
//! | [`faults`] | the fault battery: faults done to hosts in mid-transaction, judged from outside |
//! | [`fleet`] | [`Fleet`]: server, agents and command line over these hosts |
//! | [`machine`] | [`Machine`]: a host with a kernel and a boot loader of its own, emulated |
//! | [`leftovers`] | what is still there; must be empty after `down` |
//! | [`repo`] | the vendor that misbehaves: a signed package archive |
//! | [`tree`] | hash of a whole file tree, and how two differ |
//! | [`sources`] | the machine's package sources, read from its apt configuration |
//! | [`requirements`] | Debian packages the lab needs on this machine |
//!
//! All state is under one directory and one name prefix ([`LabConfig`]). [`Lab::down`] of a later
//! process cleans up after one that was killed.

pub mod base;
mod cgroup;
pub mod config;
pub mod disk;
pub mod error;
pub mod faults;
pub mod fleet;
pub mod host;
pub mod lab;
pub mod leftovers;
pub mod machine;
mod network;
mod process;
pub mod repo;
pub mod requirements;
pub mod services;
mod settings;
pub mod sources;
mod state;
mod tool;
pub mod tree;

pub use config::LabConfig;
pub use error::LabError;
pub use fleet::Fleet;
pub use host::{Booted, HostCommand, HostSpec, LabHost, Output, RootFs, Running};
pub use lab::{Lab, why_not};
pub use leftovers::{Leftover, LeftoverKind};
pub use machine::Machine;
pub use repo::Vendor;

/// What long operations call with one line for people: what is being done, and why.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);
