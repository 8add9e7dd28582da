//! systemd's services, by `systemctl show`, whose `KEY=VALUE` output is made for programs.

use crate::unit;
use fettle_core::inventory::Service;
use std::io;

/// Services that are active, failed or enabled, by name. Empty on a host that was not booted with systemd.
///
/// # Errors
/// When systemd does not answer.
pub fn services() -> io::Result<Vec<Service>> {
    if !unit::booted() {
        return Ok(Vec::new());
    }
    let text = unit::systemctl(&[
        "show",
        "--all",
        "--type=service",
        "--property=Id,LoadState,ActiveState,SubState,UnitFileState",
        "*",
    ])?;
    Ok(parse(&text))
}

/// The services among the units that `systemctl show` tells of.
pub(crate) fn parse(text: &str) -> Vec<Service> {
    let mut services: Vec<Service> = text
        .split("\n\n")
        .filter_map(|block| {
            let value = |key: &str| unit::value(block, key).unwrap_or_default();
            let enabled = value("UnitFileState");
            let active = value("ActiveState");
            // A static or disabled unit that does not run says nothing about the host.
            let counts = active != "inactive" || enabled.starts_with("enabled");
            let is_service = value("Id").ends_with(".service");
            (value("LoadState") == "loaded" && counts && is_service).then(|| Service {
                unit: value("Id").to_owned(),
                active: active.to_owned(),
                sub: value("SubState").to_owned(),
                enabled: enabled.to_owned(),
            })
        })
        .collect();
    services.sort();
    services.dedup();
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_run_failed_or_are_enabled_count_and_others_do_not() {
        let text = "Id=nginx.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\n\
                    Id=nginx.socket\nLoadState=loaded\nActiveState=active\nSubState=listening\nUnitFileState=enabled\n\n\
                    Id=gone.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n\n\
                    Id=idle.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=static\n\n\
                    Id=boot.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=enabled\n\n\
                    Id=bad.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\nUnitFileState=disabled\n";
        let units: Vec<String> = parse(text).into_iter().map(|s| s.unit).collect();
        assert_eq!(units, ["bad.service", "boot.service", "nginx.service"]);
    }
}
