//! What the lab remembers between processes. `down` works without it.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::host::RootFs;
use crate::process::ProcessId;
use crate::settings::Changed;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, HostRecord>,
    /// Settings of the machine that `down` is to put back.
    #[serde(default)]
    pub(crate) settings: Changed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub(crate) address: Ipv4Addr,
    pub(crate) root: RootFs,
    /// The container's supervisor, when it was booted last.
    pub(crate) supervisor: Option<ProcessId>,
}

impl State {
    pub(crate) fn load(file: &Path) -> Result<Self, LabError> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(LabError::io("read", file)(error)),
        };
        serde_json::from_slice(&text)
            .map_err(|error| LabError::State { path: file.to_path_buf(), why: error.to_string() })
    }

    pub(crate) fn save(&self, file: &Path) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| LabError::State {
            path: file.to_path_buf(),
            why: error.to_string(),
        })?;
        let new = file.with_extension("json.new");
        fs::write(&new, text).map_err(LabError::io("write", &new))?;
        fs::rename(&new, file).map_err(LabError::io("replace", file))
    }
}
