//! Other roots on a host: containers, machines and chroots, each with packages of its own.
//!
//! What is installed there is the host's to answer for and not the host's to patch: a container is fixed by rebuilding its
//! image, and no plan reaches into it. So each root is an inventory of its own, judged by the data of its own release, and
//! what is found in it is known by another name than what is found on the host itself: see [`subject`].

use crate::Shared;
use crate::inventory::{Inventory, Os, Package};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stands between the name of a root and that of a source package ([`subject`]). No source package has it in its name.
const APART: &str = "//";

/// An inventory's gap (`Inventory::gaps`) that begins with this says that not every root could be looked for. Then one that
/// is not listed is not taken for gone.
pub const ROOTS_GAP: &str = "other roots";

/// The inventory of a root on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Root {
    /// Who keeps it.
    pub kind: RootKind,
    /// What it is called there: the container's, the machine's, the chroot's name.
    pub name: String,
    /// The image it was made of, as its keeper calls it: `docker.io/library/debian:12`. Empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Where the host has it. Empty where only its processes lead there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Does a process run in it?
    pub running: bool,
    /// Its operating system, from its own `os-release(5)`.
    pub os: Os,
    /// Architecture of most of its packages, in its own distribution's words.
    pub architecture: String,
    /// Installed packages, by name and architecture.
    pub packages: Shared<Vec<Shared<Package>>>,
    /// What could not be found out about it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// Who keeps a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// Another engine of containers, told by the control group alone: containerd, CRI-O, a podman of some user.
    Container,
    /// systemd-nspawn, or whatever else is in `/var/lib/machines`.
    Nspawn,
    /// A chroot that is configured: schroot, a service's `RootDirectory=`.
    Chroot,
}

impl RootKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Docker, Self::Podman, Self::Container, Self::Nspawn, Self::Chroot];

    /// The word, as it stands in [`Root::id`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Container => "container",
            Self::Nspawn => "nspawn",
            Self::Chroot => "chroot",
        }
    }

    /// The kind of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What people call one: `container`, `machine`, `chroot`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Docker | Self::Podman | Self::Container => "container",
            Self::Nspawn => "machine",
            Self::Chroot => "chroot",
        }
    }

    /// How what is found in one is mended.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Docker | Self::Podman | Self::Container => {
                "rebuild the image, and start the container anew from it"
            }
            Self::Nspawn => "upgrade it from the inside, with its own package manager",
            Self::Chroot => "upgrade it with its own package manager, or make it anew",
        }
    }
}

impl fmt::Display for RootKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Root {
    /// What it is known by on its host: `docker:web`.
    pub fn id(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }

    /// As people say it: `container web of image nginx:1.25`.
    pub fn called(&self) -> String {
        called(&self.id(), &self.image)
    }

    /// As the inventory of a host: nothing but packages is known of it, and no kernel is its own.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            schema: 1,
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            packages: self.packages.clone(),
            gaps: self.gaps.clone(),
            ..Inventory::default()
        }
    }
}

/// As people say it, by [`Root::id`] and image: `container web of image nginx:1.25`, `machine build`.
pub fn called(id: &str, image: &str) -> String {
    let (word, name) = id.split_once(':').unwrap_or(("", id));
    let noun = RootKind::from_word(word).map_or("root", RootKind::noun);
    match image {
        "" => format!("{noun} {name}"),
        image => format!("{noun} {name} of image {image}"),
    }
}

/// How what is found in the root of this [`Root::id`] is mended.
pub fn remedy(id: &str) -> &'static str {
    let kind = id.split_once(':').and_then(|(word, _)| RootKind::from_word(word));
    kind.unwrap_or(RootKind::Container).remedy()
}

/// What a source package in a root is called where those of the host have their plain name: `docker:web//openssl`.
pub fn subject(id: &str, source: &str) -> String {
    format!("{id}{APART}{source}")
}

/// Takes such a name apart: [`Root::id`] and the plain name; no root where it is the host's own.
pub fn of_subject(subject: &str) -> (Option<&str>, &str) {
    match subject.split_once(APART) {
        Some((id, source)) => (Some(id), source),
        None => (None, subject),
    }
}

/// Can a root have this name? Plain characters, and none that stands for something else where names are put together.
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() && c != '/')
}

impl Inventory {
    /// The root of this [`Root::id`].
    pub fn root(&self, id: &str) -> Option<&Root> {
        let (word, name) = id.split_once(':')?;
        let kind = RootKind::from_word(word)?;
        self.roots.iter().find(|root| root.kind == kind && root.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_root_and_what_is_on_the_host_have_different_names() {
        for (subject, root, source) in [
            ("openssl", None, "openssl"),
            ("pypi/jinja2", None, "pypi/jinja2"),
            ("nodejs:18/nodejs", None, "nodejs:18/nodejs"),
            ("docker:web//openssl", Some("docker:web"), "openssl"),
            ("nspawn:a:b//nodejs:18/nodejs", Some("nspawn:a:b"), "nodejs:18/nodejs"),
        ] {
            assert_eq!(of_subject(subject), (root, source));
            if let Some(root) = root {
                assert_eq!(super::subject(root, source), subject);
            }
        }
        for (name, good) in
            [("web-1", true), ("a:b", true), ("", false), ("a/b", false), ("a b", false)]
        {
            assert_eq!(is_name(name), good, "{name}");
        }
    }

    #[test]
    fn a_root_is_called_by_what_it_is() {
        assert_eq!(called("docker:web", "debian:12"), "container web of image debian:12");
        assert_eq!(called("nspawn:build", ""), "machine build");
        assert_eq!(called("chroot:sid", ""), "chroot sid");
        for kind in RootKind::ALL {
            assert_eq!(RootKind::from_word(kind.word()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.word()));
        }
    }

    #[test]
    fn inventories_of_agents_that_know_no_roots_are_read_and_written_as_they_are() {
        let plain = serde_json::to_string(&Inventory::default()).unwrap();
        assert!(!plain.contains("roots"), "{plain}");
        let read: Inventory = serde_json::from_str(&plain).unwrap();
        assert_eq!(read, Inventory::default());
        assert_eq!(read.digest(), Inventory::default().digest());
    }
}
