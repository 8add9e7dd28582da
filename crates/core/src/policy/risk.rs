//! Packages whose change asks for more care than that of others, whatever is wrong with them: a kernel that does not boot is
//! found by a longer look at fewer hosts, not by a faster one.

use super::{Policy, Share, Strategy, glob};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// What goes wrong where a package does; written `@kernel`. Names are those of Debian, Ubuntu, Red Hat and Alpine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackageClass {
    /// The host does not find its kernel, or its root.
    Boot,
    /// The host does not come up, or behaves otherwise.
    Kernel,
    /// Every program.
    Libc,
    /// Services are not started, or not watched.
    Init,
    /// Nobody reaches the host.
    Network,
    /// Nobody can log in from elsewhere.
    Sshd,
    /// Nobody can log in at all, or become root.
    Login,
    /// Containers stop, or are not started.
    ContainerRuntime,
    /// Data.
    Database,
}

impl PackageClass {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Boot,
        Self::Kernel,
        Self::Libc,
        Self::Init,
        Self::Network,
        Self::Sshd,
        Self::Login,
        Self::ContainerRuntime,
        Self::Database,
    ];

    /// The word, as policies write it behind `@`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Kernel => "kernel",
            Self::Libc => "libc",
            Self::Init => "init",
            Self::Network => "network",
            Self::Sshd => "sshd",
            Self::Login => "login",
            Self::ContainerRuntime => "container-runtime",
            Self::Database => "database",
        }
    }

    /// Patterns of the names of its packages, source packages among them.
    fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Boot => &[
                "grub*",
                "shim*",
                "systemd-boot*",
                "efibootmgr",
                "initramfs-tools*",
                "dracut*",
                "cryptsetup*",
                "lvm2",
                "mdadm",
                "u-boot*",
                "mkinitfs",
            ],
            Self::Kernel => &[
                "linux",
                "linux-image*",
                "linux-modules*",
                "linux-signed*",
                "linux-lts*",
                "linux-virt*",
                "kernel",
                "kernel-core",
                "kernel-modules*",
                "kernel-default*",
                "linux-firmware*",
                "firmware-*",
                "intel-microcode",
                "amd64-microcode",
                "microcode_ctl",
            ],
            Self::Libc => &[
                "libc6",
                "libc6-*",
                "libc-bin",
                "glibc",
                "glibc-*",
                "musl",
                "libcrypt1",
                "libgcc-s1",
                "gcc-*-base",
                "libstdc++6",
                "libxcrypt",
            ],
            Self::Init => &[
                "systemd",
                "systemd-sysv",
                "systemd-libs",
                "libsystemd0",
                "libudev1",
                "udev",
                "init",
                "sysvinit*",
                "openrc",
                "dbus",
                "dbus-*",
                "eudev",
            ],
            Self::Network => &[
                "network-manager*",
                "NetworkManager*",
                "systemd-resolved",
                "systemd-networkd",
                "ifupdown*",
                "netplan*",
                "libnetplan*",
                "iproute*",
                "nftables",
                "libnftables*",
                "iptables*",
                "firewalld",
                "ufw",
                "isc-dhcp-client*",
                "dhcpcd*",
                "wpasupplicant",
                "openvswitch*",
                "wireguard*",
                "cloud-init",
                "resolvconf",
                "openresolv",
            ],
            Self::Sshd => &["openssh", "openssh-*", "dropbear*", "ssh"],
            Self::Login => &[
                "libpam*",
                "pam",
                "login",
                "passwd",
                "shadow",
                "shadow-utils",
                "sudo",
                "sudo-*",
                "sssd*",
                "libnss-*",
                "util-linux",
                "krb5*",
                "libkrb5*",
                "polkit*",
                "policykit*",
            ],
            Self::ContainerRuntime => &[
                "containerd*",
                "docker*",
                "moby*",
                "podman*",
                "runc",
                "crun",
                "cri-o*",
                "cri-tools",
                "conmon",
                "kubelet",
                "kubeadm",
                "lxc*",
                "lxd*",
                "incus*",
            ],
            Self::Database => &[
                "postgresql*",
                "mariadb*",
                "mysql*",
                "redis*",
                "valkey*",
                "mongodb*",
                "clickhouse*",
                "elasticsearch*",
                "opensearch*",
                "cassandra*",
                "etcd*",
                "influxdb*",
                "couchdb*",
            ],
        }
    }

    /// Is a package of this name, or built from a source of this name, of the class?
    pub fn holds(self, name: &str) -> bool {
        self.patterns().iter().any(|pattern| glob::matches(pattern, name))
    }

    /// The class of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }
}

/// Does what a policy writes of packages (`@kernel`, `nginx*`) mean this one?
pub fn means(pattern: &str, package: &str) -> bool {
    match pattern.strip_prefix('@') {
        Some(word) => PackageClass::of_word(word).is_some_and(|class| class.holds(package)),
        None => glob::matches(pattern, package),
    }
}

/// What a plan has to keep to that changes one of these packages. Of several rules the strictest word counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RiskRule {
    /// What people call it.
    pub name: String,
    /// Which packages: `@kernel`, or names in which `*` and `?` are globs.
    pub packages: Vec<String>,
    /// Patched hosts are watched at least this long, in seconds.
    pub bake_seconds: Option<u64>,
    /// Hosts patched together at most, in percent of the ring or of the policy's hosts.
    pub wave_percent: Option<u32>,
    /// How many must approve the plan at least; not in an emergency, which has a number of its own.
    pub approvals: Option<u32>,
}

impl RiskRule {
    /// Is it about this package?
    pub fn is_about(&self, package: &str) -> bool {
        self.packages.iter().any(|pattern| means(pattern, package))
    }
}

impl fmt::Display for RiskRule {
    /// What it asks for, in the words of the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bake = |seconds| format!("bake = {}", super::parse::duration_text(seconds));
        let asked = [
            self.bake_seconds.map(bake),
            self.wave_percent.map(|n| format!("wave-percent = {n}")),
            self.approvals.map(|n| format!("approvals = {n}")),
        ];
        f.write_str(&asked.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Policy {
    /// Rules about one of these packages, in the policy's order.
    fn risks_of<'p>(&self, packages: impl Iterator<Item = &'p str> + Clone) -> Vec<&RiskRule> {
        let hit = |rule: &&RiskRule| packages.clone().any(|package| rule.is_about(package));
        self.risks.iter().filter(hit).collect()
    }

    /// The policy as it counts for a plan that changes these packages: nothing of it becomes laxer.
    pub fn with_care<'p>(&self, packages: impl Iterator<Item = &'p str> + Clone) -> Cow<'_, Self> {
        let risks = self.risks_of(packages);
        if risks.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut careful = self.clone();
        for risk in risks {
            let bake = &mut careful.gate.bake_seconds;
            *bake = (*bake).max(risk.bake_seconds.unwrap_or(0));
            careful.approvals = careful.approvals.max(risk.approvals.unwrap_or(0));
            if let Some(percent) = risk.wave_percent {
                careful.rings.iter_mut().for_each(|r| r.wave_percent = r.wave_percent.min(percent));
                careful.strategy = smaller(careful.strategy, percent);
            }
        }
        Cow::Owned(careful)
    }
}

/// The strategy with no more than that share of the hosts at once. Pools change as a whole.
fn smaller(strategy: Strategy, percent: u32) -> Strategy {
    match strategy {
        Strategy::Percentage { waves, soak_seconds } => {
            let mut smaller: Vec<u32> = Vec::new();
            for share in waves {
                while share > smaller.last().copied().unwrap_or(0).saturating_add(percent) {
                    smaller.push(smaller.last().copied().unwrap_or(0).saturating_add(percent));
                }
                smaller.push(share);
            }
            Strategy::Percentage { waves: smaller, soak_seconds }
        }
        Strategy::Rolling { max_unavailable: Share::Percent(now) } => {
            Strategy::Rolling { max_unavailable: Share::Percent(now.min(percent)) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn packages_are_of_the_classes_that_administrators_put_them_in() {
        for (package, classes) in [
            ("linux-image-6.1.0-28-amd64", "kernel"),
            ("linux-libc-dev", ""),
            ("kernel-core", "kernel"),
            ("grub-efi-amd64-signed", "boot"),
            ("libc6", "libc"),
            ("libc6-i386", "libc"),
            ("libcap2", ""),
            ("systemd", "init"),
            ("systemd-resolved", "network"),
            ("openssh-server", "sshd"),
            ("openssl", ""),
            ("libpam-modules", "login"),
            ("postgresql-15", "database"),
            ("containerd.io", "container-runtime"),
            ("nginx", ""),
        ] {
            let found = PackageClass::ALL.into_iter().filter(|class| class.holds(package));
            let found: Vec<&str> = found.map(PackageClass::word).collect();
            assert_eq!(found.join(" "), classes, "{package}");
        }
        for class in PackageClass::ALL {
            assert_eq!(PackageClass::of_word(class.word()), Some(class));
        }
    }

    fn rule(packages: &[&str], bake: u64, percent: u32, approvals: u32) -> RiskRule {
        RiskRule {
            name: packages.join(" "),
            packages: packages.iter().map(|p| (*p).to_owned()).collect(),
            bake_seconds: Some(bake),
            wave_percent: Some(percent),
            approvals: Some(approvals),
        }
    }

    #[test]
    fn the_strictest_of_all_rules_that_are_hit_counts_and_nothing_becomes_laxer() {
        let mut policy = Policy::bare(Digest::of(b""));
        policy.approvals = 1;
        policy.gate.bake_seconds = 600;
        policy.strategy = Strategy::Rolling { max_unavailable: Share::Percent(25) };
        policy.risks = vec![rule(&["@kernel"], 3600, 10, 2), rule(&["nginx*"], 60, 50, 0)];
        let of = |packages: &[&str]| {
            let careful = policy.with_care(packages.iter().copied());
            let Strategy::Rolling { max_unavailable: Share::Percent(n) } = careful.strategy else {
                panic!("another strategy")
            };
            (careful.gate.bake_seconds, n, careful.approvals)
        };
        assert_eq!(of(&["perl"]), (600, 25, 1));
        assert_eq!(of(&["nginx-core"]), (600, 25, 1));
        assert_eq!(of(&["nginx-core", "linux-image-amd64"]), (3600, 10, 2));
    }

    #[test]
    fn shares_that_grow_too_fast_grow_in_steps() {
        let waves = |waves: &[u32], percent| {
            let strategy = Strategy::Percentage { waves: waves.to_vec(), soak_seconds: 0 };
            let Strategy::Percentage { waves, .. } = smaller(strategy, percent) else { panic!() };
            waves
        };
        assert_eq!(waves(&[1, 5, 25, 100], 30), [1, 5, 25, 55, 85, 100]);
        assert_eq!(waves(&[1, 5, 25, 100], 10), [1, 5, 15, 25, 35, 45, 55, 65, 75, 85, 95, 100]);
        assert_eq!(waves(&[100], 50), [50, 100]);
        assert_eq!(waves(&[1, 5, 25, 100], 100), [1, 5, 25, 100]);
    }
}
