//! Running cargo and other programs of the machine.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs a program with its output on ours; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// `cargo` in the repository's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Builds the two programs in a profile and gives the directory they are in.
pub(crate) fn programs(profile: &str) -> Result<PathBuf> {
    run(&mut cargo(&["build", "--profile", profile, "--bin", "fettle", "--bin", "fettle-agent"]))?;
    Ok(target().join(if profile == "dev" { "debug" } else { profile }))
}

/// Builds the agent as it ships and says where it is: one small static program, which runs on any Linux of this
/// processor whatever C library that has.
pub(crate) fn agent() -> Result<PathBuf> {
    let triple = host_triple()?;
    let script = root().join("crates/agent/lean.ld");
    let mut command = cargo(&["rustc", "--profile", "agent", "--package", "fettle-agent"]);
    command
        // With a target named, build scripts and macros are built without these flags.
        .args(["--bin", "fettle-agent", "--target", &triple, "--"])
        .arg(format!("-Clink-arg=-Wl,-T,{}", script.display()))
        .arg("-Clink-arg=-Wl,--no-eh-frame-hdr")
        // The script sorts code by the names of its modules, and only these names say them for every function.
        .env(
            "RUSTFLAGS",
            format!("-Ctarget-feature=+crt-static -Csymbol-mangling-version=v0 {}", same_paths()),
        );
    if relocates_by_relr() {
        // Three bytes in a hundred of the program, all of which every start would read.
        command.arg("-Clink-arg=-Wl,--pack-dyn-relocs=relr");
    }
    run(&mut command)?;
    Ok(target().join(triple).join("agent/fettle-agent"))
}

/// Does the C library of this machine, which becomes part of the program, read `DT_RELR`? glibc does from 2.36 on.
fn relocates_by_relr() -> bool {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = said.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    is_at_least_2_36(&said.unwrap_or_default())
}

/// Of `glibc 2.36`.
fn is_at_least_2_36(said: &str) -> bool {
    let version = said.trim().strip_prefix("glibc ").unwrap_or_default();
    let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(36))
}

/// Flags under which a program is the same wherever it is built: messages of panics name source files, and those of
/// libraries lie below somebody's home.
pub(crate) fn same_paths() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        // As cargo itself finds it.
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"))
    });
    let cargo = home.unwrap_or_default().join("registry/src");
    format!(
        "--remap-path-prefix={}=/fettle --remap-path-prefix={}=/cargo",
        root().display(),
        cargo.display()
    )
}

/// What this compiler builds for when nothing is said.
pub(crate) fn host_triple() -> Result<String> {
    let said = Command::new("rustc").arg("-vV").output().context("starting rustc")?;
    let said = String::from_utf8_lossy(&said.stdout);
    let triple = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(triple.context("`rustc -vV` names no host")?.to_owned())
}

pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_a_c_library_that_reads_packed_relocations_is_given_them() {
        let cases =
            [("glibc 2.36\n", true), ("glibc 2.35", false), ("glibc 3.0", true), ("musl", false)];
        for (said, reads) in cases {
            assert_eq!(super::is_at_least_2_36(said), reads, "{said}");
        }
    }
}
