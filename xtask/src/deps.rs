//! Which room may depend on which: arrows point one way.

use crate::build::cargo;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// For each room, the rooms it may use. Development-only rooms (sim, lab, xtask) may use what they exercise.
const MAY_USE: &[(&str, &[&str])] = &[
    ("fettle-core", &[]),
    ("fettle-dpkg", &["fettle-core"]),
    ("fettle-vuln", &["fettle-core"]),
    ("fettle-wire", &["fettle-core"]),
    ("fettle-store", &["fettle-core", "fettle-vuln", "fettle-wire"]),
    ("fettle-server", &["fettle-core", "fettle-vuln", "fettle-wire", "fettle-store"]),
    ("fettle-agent", &["fettle-core", "fettle-dpkg", "fettle-vuln", "fettle-wire"]),
    ("fettle-cli", &["fettle-core", "fettle-wire", "fettle-server"]),
    ("fettle-sim", &["fettle-core", "fettle-vuln"]),
    ("fettle-lab", &["fettle-core", "fettle-wire"]),
    ("xtask", &["fettle-core", "fettle-wire", "fettle-lab", "fettle-sim"]),
];

/// Crates that bring effects, and the rooms that must not have them as direct dependencies.
const PURE: &[&str] = &["fettle-core", "fettle-vuln", "fettle-wire"];
const EFFECTS: &[&str] = &["tokio", "rusqlite", "axum", "hyper", "rustix", "tracing", "ureq"];

/// Reads `cargo metadata` and compares.
pub(crate) fn check() -> Result<()> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cargo metadata")?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let mut wrong = Vec::new();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, may)) = MAY_USE.iter().find(|(room, _)| *room == name) else {
            wrong.push(format!(
                "{name} is a room that xtask/src/deps.rs does not know: add it to MAY_USE"
            ));
            continue;
        };
        let dependencies =
            package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        for used in
            dependencies.iter().filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str())
        {
            if MAY_USE.iter().any(|(room, _)| *room == used) && !may.contains(&used) {
                wrong.push(format!("{name} uses {used}: arrows point from the rooms that touch the world to the pure ones"));
            }
            if PURE.contains(&name) && EFFECTS.contains(&used) {
                wrong.push(format!("{name} uses {used}: a pure room has no effects"));
            }
        }
    }
    if packages.len() != MAY_USE.len() {
        wrong.push(format!("{} rooms were expected, cargo sees {}", MAY_USE.len(), packages.len()));
    }
    if !wrong.is_empty() {
        bail!("the direction of dependencies is broken:\n  {}", wrong.join("\n  "));
    }
    println!("{} rooms, every arrow points the right way", packages.len());
    Ok(())
}
