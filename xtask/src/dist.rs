//! `cargo xtask dist`: the packages that people install. The same commit gives the same bytes: nothing of the clock, the
//! directory, the user or the number of processors gets into them.

mod deb;
mod manual;
mod tree;

use crate::build::{self, cargo, root, run, target};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use deb::{Deb, libraries};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tree::{Tree, output};

/// Build the packages `fettle` and `fettle-agent` for Debian and its kin, with their SHA256SUMS.
#[derive(Debug, Args)]
pub(crate) struct Dist {
    /// Where they are written. Default: `target/dist`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Their version. Default: the workspace's, with the commit where that has no tag.
    #[arg(long)]
    version: Option<String>,
    /// Pack the programs in this directory in place of building them: quick, for tests.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

impl Dist {
    pub(crate) fn run(self) -> Result<()> {
        let out = self.out.unwrap_or_else(|| target().join("dist"));
        let version = self.version.map_or_else(version, Ok)?;
        let programs = match &self.programs {
            Some(built) => Programs::built(built),
            None => Programs::build()?,
        };
        let packing = Packing { version: &version, epoch: epoch()?, fast: self.programs.is_some() };
        let made = pack(&programs, &packing, &out)?;
        for archive in &made {
            let bytes = fs::metadata(archive)?.len();
            println!("{}  {:.1} MB", archive.display(), bytes as f64 / 1e6);
        }
        println!("{}", out.join(SUMS).display());
        Ok(())
    }
}

/// Hashes of all packages in a directory, as `sha256sum --check` takes them.
const SUMS: &str = "SHA256SUMS";

/// The two programs.
pub(crate) struct Programs {
    fettle: PathBuf,
    agent: PathBuf,
}

impl Programs {
    /// Those that stand in a directory.
    pub(crate) fn built(directory: &Path) -> Self {
        Self { fettle: directory.join("fettle"), agent: directory.join("fettle-agent") }
    }

    /// As they ship.
    fn build() -> Result<Self> {
        let triple = build::host_triple()?;
        // With a target named, build scripts and macros are built without these flags.
        run(cargo(&["build", "--locked", "--release", "--bin", "fettle", "--target", &triple])
            .env("RUSTFLAGS", build::same_paths()))?;
        Ok(Self { fettle: target().join(triple).join("release/fettle"), agent: build::agent()? })
    }
}

/// How the packages are made.
pub(crate) struct Packing<'a> {
    pub(crate) version: &'a str,
    /// Seconds since 1970: how old everything in them is.
    pub(crate) epoch: u64,
    /// For a test: larger, and packed at once.
    pub(crate) fast: bool,
}

/// Makes both packages and their sums in `out`.
pub(crate) fn pack(programs: &Programs, how: &Packing<'_>, out: &Path) -> Result<Vec<PathBuf>> {
    let work = out.join(".work");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    let pages = work.join("pages");
    output(Command::new(&programs.fettle).arg("manual").arg(pages.join("fettle")))?;
    for (shell, name) in SHELLS {
        let text = output(Command::new(&programs.fettle).args(["completions", shell]))?;
        fs::write(pages.join("fettle").join(name.replace('@', "fettle")), text)?;
    }
    manual::write(&pages.join("fettle-agent"))?;

    let made = vec![
        server(programs, &pages.join("fettle"), how, out, &work)?,
        agent(programs, &pages.join("fettle-agent"), how, out, &work)?,
    ];
    fs::remove_dir_all(&work)?;
    let mut names: Vec<&str> =
        made.iter().filter_map(|archive| archive.file_name()?.to_str()).collect();
    names.sort_unstable();
    let sums = output(Command::new("sha256sum").arg("--").args(names).current_dir(out))?;
    fs::write(out.join(SUMS), sums)?;
    Ok(made)
}

fn server(
    programs: &Programs,
    pages: &Path,
    how: &Packing<'_>,
    out: &Path,
    work: &Path,
) -> Result<PathBuf> {
    let tree = Tree::new(work.join("fettle"))?;
    let deploy = root().join("deploy");
    tree.program(&programs.fettle, "usr/bin/fettle")?;
    for unit in ["fettle.service", "fettle-backup.service", "fettle-backup.timer"] {
        tree.copy(&deploy.join(unit), &format!("{UNITS}/{unit}"), 0o644)?;
    }
    tree.copy(&deploy.join("fettle.sysusers"), "usr/lib/sysusers.d/fettle.conf", 0o644)?;
    tree.copy(&deploy.join("fettle.tmpfiles"), "usr/lib/tmpfiles.d/fettle.conf", 0o644)?;
    tree.copy(&deploy.join("server.env"), "etc/fettle/server.env", 0o644)?;
    documents(&tree, "fettle", pages)?;
    examples(&tree, &root().join("examples"), "usr/share/doc/fettle/examples")?;
    for beside in ["prometheus", "grafana"] {
        examples(&tree, &deploy.join(beside), &format!("usr/share/doc/fettle/{beside}"))?;
    }
    let depends = format!(
        "{}, systemd (>= 247), init-system-helpers (>= 1.54), passwd, util-linux, findutils",
        libraries(&programs.fettle)?
    );
    let package = Deb {
        name: "fettle",
        version: how.version,
        architecture: architecture()?,
        depends,
        fields: &[("Suggests", "fettle-agent")],
        description: "patch management for fleets of Linux hosts: server and command line\n\
            Fettle keeps a fleet of Linux hosts patched, and can prove it. It knows which\n\
            host is exposed to what, rehearses each patch on a copy-on-write clone of the\n\
            very host it will hit, rolls it out in waves, and takes it back byte for byte\n\
            where it hurts.\n\
            \n\
            This package has the server, which needs no other database or web server, and\n\
            the operator's command line. Hosts need the package fettle-agent.",
        scripts: deploy.join("debian/fettle"),
    };
    package.build(&tree, out, how.epoch, how.fast)
}

fn agent(
    programs: &Programs,
    pages: &Path,
    how: &Packing<'_>,
    out: &Path,
    work: &Path,
) -> Result<PathBuf> {
    let tree = Tree::new(work.join("fettle-agent"))?;
    let deploy = root().join("deploy");
    tree.program(&programs.agent, "usr/bin/fettle-agent")?;
    tree.copy(
        &deploy.join("fettle-agent.service"),
        &format!("{UNITS}/fettle-agent.service"),
        0o644,
    )?;
    for directory in ["tests.d", "probes.d", "balancers.d", "data.d", "hooks.d"] {
        tree.directory(&format!("etc/fettle/{directory}"))?;
    }
    documents(&tree, "fettle-agent", pages)?;
    let package = Deb {
        name: "fettle-agent",
        version: how.version,
        architecture: architecture()?,
        // The program is static: it asks for tools, not for libraries.
        depends: "apt, dpkg, systemd (>= 241), init-system-helpers (>= 1.54)".to_owned(),
        fields: &[("Suggests", "systemd-container, mmdebstrap")],
        description: "patch management for fleets of Linux hosts: the host side\n\
            Takes inventory of this host, rehearses each change on a copy-on-write clone\n\
            of it, keeps what the change will touch, makes it, and takes it back byte for\n\
            byte where it hurts. Obeys a Fettle server once it is enrolled, and is of use\n\
            without one: see fettle-agent(8).",
        scripts: deploy.join("debian/fettle-agent"),
    };
    package.build(&tree, out, how.epoch, how.fast)
}

const UNITS: &str = "usr/lib/systemd/system";

/// What `completions` is asked for, and how such a file is called where `@` stands for the program.
const SHELLS: [(&str, &str); 3] = [("bash", "@.bash"), ("zsh", "_@"), ("fish", "@.fish")];

/// Manual pages, completions, licence and changes of a program.
fn documents(tree: &Tree, program: &str, pages: &Path) -> Result<()> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(pages)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for page in entries {
        let name = page.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        match name.rsplit_once('.') {
            Some((_, section)) if section.parse::<u8>().is_ok() => {
                let at = format!("usr/share/man/man{section}/{name}");
                tree.compressed(&fs::read(&page)?, &at)?;
            }
            Some((_, "bash")) => {
                let at = format!("usr/share/bash-completion/completions/{program}");
                tree.copy(&page, &at, 0o644)?;
            }
            Some((_, "fish")) => {
                let at = format!("usr/share/fish/vendor_completions.d/{name}");
                tree.copy(&page, &at, 0o644)?;
            }
            _ if name.starts_with('_') => {
                tree.copy(&page, &format!("usr/share/zsh/vendor-completions/{name}"), 0o644)?;
            }
            _ => bail!("{} is neither page nor completion", page.display()),
        }
    }
    let doc = format!("usr/share/doc/{program}");
    tree.copy(&root().join("deploy/debian/copyright"), &format!("{doc}/copyright"), 0o644)?;
    let changes = fs::read(root().join("CHANGELOG.md"))?;
    tree.compressed(&changes, &format!("{doc}/changelog"))
}

/// A directory of examples, with its scripts executable.
fn examples(tree: &Tree, from: &Path, at: &str) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let at = format!("{at}/{name}");
        if path.is_dir() {
            examples(tree, &path, &at)?;
        } else {
            let runs = fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            tree.copy(&path, &at, if runs { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

/// Debian's word for the processor that is built for.
fn architecture() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        other => bail!("what Debian calls {other} is not known here: add it to xtask/src/dist.rs"),
    })
}

/// The workspace's version where the commit has its tag; otherwise one that sorts before it, by the commit's time.
fn version() -> Result<String> {
    let release = env!("CARGO_PKG_VERSION");
    let Ok(commit) = git(&["rev-parse", "--short=9", "HEAD"]) else {
        return Ok(release.to_owned());
    };
    let changed = if git(&["status", "--porcelain"])?.is_empty() { "" } else { "+changed" };
    if git(&["tag", "--points-at", "HEAD"])?.lines().any(|tag| tag == format!("v{release}")) {
        return Ok(format!("{release}{changed}"));
    }
    let time = git(&["show", "-s", "--date=format-local:%Y%m%d%H%M%S", "--format=%cd", "HEAD"])?;
    Ok(format!("{release}~git{time}.{commit}{changed}"))
}

/// How old everything in the packages is: what reproducible-builds.org's `SOURCE_DATE_EPOCH` says, or the commit's time.
pub(crate) fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => git(&["show", "-s", "--format=%ct", "HEAD"]).context(
            "without git, set SOURCE_DATE_EPOCH to the seconds since 1970 of the release",
        )?,
    };
    text.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is no number: `{text}`"))
}

fn git(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(root()).env("TZ", "UTC0");
    Ok(output(&mut command)?.trim().to_owned())
}

#[cfg(test)]
#[path = "dist/tests.rs"]
mod tests;
