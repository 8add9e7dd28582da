//! The containers of Docker and Podman, by the files that these keep for themselves, which belong to root.

use super::Candidate;
use crate::settings::Settings;
use fettle_core::root::{ROOTS_GAP, RootKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A longer description of containers is none.
const DESCRIPTION: u64 = 16 << 20;

#[derive(Deserialize)]
struct DockerDaemon {
    #[serde(rename = "data-root", alias = "graph")]
    data_root: Option<PathBuf>,
}

/// `config.v2.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainer {
    #[serde(default)]
    name: String,
    #[serde(default)]
    driver: String,
    config: Option<DockerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    #[serde(default)]
    image: String,
}

/// Docker's containers, running or not.
pub(super) fn docker(settings: &Settings, gaps: &mut Vec<String>) -> Vec<Candidate> {
    let configured: io::Result<DockerDaemon> = json(&settings.host("etc/docker/daemon.json"));
    let data = configured.ok().and_then(|daemon| daemon.data_root);
    let data = settings.host(&data.unwrap_or_else(|| "/var/lib/docker".into()).to_string_lossy());
    let mut found = Vec::new();
    for id in names(&data.join("containers"), "docker", gaps) {
        let described = json(&data.join("containers").join(&id).join("config.v2.json"));
        let Ok(container) = described else {
            // It is being made, or being removed.
            continue;
        };
        let DockerContainer { name, driver, config } = container;
        let mount = data.join("image").join(&driver).join("layerdb/mounts").join(&id);
        let layer = text(&mount.join("mount-id")).unwrap_or_default();
        found.push(Candidate {
            kind: RootKind::Docker,
            name: name.trim_start_matches('/').to_owned(),
            image: config.map(|c| c.image).unwrap_or_default(),
            layers: match (driver.as_str(), layer.trim()) {
                // containerd keeps them, in a database of its own.
                (_, "") => Vec::new(),
                ("overlay2" | "overlay", layer) => overlay(&data.join(&driver), layer),
                ("vfs", layer) => vec![data.join("vfs/dir").join(layer)],
                ("btrfs", layer) => vec![data.join("btrfs/subvolumes").join(layer)],
                _ => Vec::new(),
            },
            id,
            processes: None,
        });
    }
    found
}

/// `containers.json` of containers-storage.
#[derive(Deserialize)]
struct PodmanContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    layer: String,
    /// JSON within JSON.
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Default)]
struct PodmanMetadata {
    #[serde(rename = "image-name", default)]
    image: String,
}

/// Podman's containers of root, running or not.
pub(super) fn podman(settings: &Settings, gaps: &mut Vec<String>) -> Vec<Candidate> {
    let configured = text(&settings.host("etc/containers/storage.conf")).unwrap_or_default();
    let graph = graph_root(&configured).unwrap_or("/var/lib/containers/storage");
    let graph = settings.host(graph);
    let mut found = Vec::new();
    for driver in ["overlay", "vfs", "btrfs"] {
        // Those that are to be gone after a reboot are listed apart.
        for list in ["containers.json", "volatile-containers.json"] {
            let list = graph.join(format!("{driver}-containers")).join(list);
            let containers: Vec<PodmanContainer> = match json(&list) {
                Ok(containers) => containers,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    gaps.push(format!("{ROOTS_GAP}: podman: {}: {e}", list.display()));
                    continue;
                }
            };
            found.extend(containers.into_iter().map(|it| {
                let metadata: PodmanMetadata =
                    serde_json::from_str(&it.metadata).unwrap_or_default();
                let layer = &it.layer;
                Candidate {
                    kind: RootKind::Podman,
                    name: it.names.first().unwrap_or(&it.id).clone(),
                    image: metadata.image,
                    layers: match driver {
                        _ if layer.is_empty() || layer.contains('/') => Vec::new(),
                        "overlay" => overlay(&graph.join("overlay"), layer),
                        "vfs" => vec![graph.join("vfs/dir").join(layer)],
                        _ => vec![graph.join("btrfs/subvolumes").join(layer)],
                    },
                    id: it.id,
                    processes: None,
                }
            }));
        }
    }
    found
}

/// `graphroot = "…"` in the section `[storage]` of containers-storage.conf(5), which is TOML.
fn graph_root(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "graphroot").then_some(value.trim())
    })?;
    value.strip_prefix('"')?.strip_suffix('"').filter(|v| v.starts_with('/'))
}

/// The directories of a layer and of those below it, topmost first. `lower` names these by links: `l/ABC:l/DEF`.
fn overlay(driver: &Path, layer: &str) -> Vec<PathBuf> {
    let own = driver.join(layer);
    let lower = text(&own.join("lower")).unwrap_or_default();
    let below = lower.trim().split(':').filter(|name| !name.is_empty());
    let mut layers = vec![own.join("diff")];
    layers.extend(below.map(|name| driver.join(name)));
    layers
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}

fn json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::open(path)?.take(DESCRIPTION).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Names in a directory, sorted; none where there is none.
pub(super) fn names(directory: &Path, of: &str, gaps: &mut Vec<String>) -> Vec<String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            gaps.push(format!("{ROOTS_GAP}: {of}: {}: {e}", directory.display()));
            return Vec::new();
        }
    };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
