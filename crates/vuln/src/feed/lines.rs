//! Packages of one name that a release has in several lines of versions, side by side: a fix of one line is none of another.

use fettle_core::advisory::{AdvisoryStatus, VersionRange};

/// Oracle's own kernels. A release has several of them (5.4.17, 5.15.0, 6.12.0), each with fixes of its own, and all are
/// called alike.
const UEK: &str = "kernel-uek";

/// What a fix of a package of Oracle's comes to.
pub(super) fn of_oracle(package: &str, version: String) -> AdvisoryStatus {
    let line = version.split_once('-').map(|(line, _)| line.to_owned());
    match line.filter(|_| package.starts_with(UEK)) {
        Some(line) => of_line(&line, version),
        None => AdvisoryStatus::Fixed { version },
    }
}

/// What a fix of a line comes to: `5.15`.
pub(super) fn of_line(line: &str, version: String) -> AdvisoryStatus {
    let range = VersionRange { introduced: format!("{line}-0"), fixed: Some(version), last: None };
    AdvisoryStatus::Ranges { ranges: vec![range] }
}

/// The version of a package of Rocky's without what its builds for clouds put behind it (`4.18.0-553.el8_10.cloud.0.1`): the
/// same is fixed in the distribution's own, which would be below.
pub(super) fn of_rocky(version: &str) -> &str {
    version.split_once(".cloud.").map_or(version, |(own, _)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_of_one_of_oracles_kernels_is_about_that_kernel_and_of_others_about_all_versions() {
        let version = "5.15.0-200.131.27.el8uek".to_owned();
        let range = VersionRange {
            introduced: "5.15.0-0".to_owned(),
            fixed: Some(version.clone()),
            last: None,
        };
        assert_eq!(
            of_oracle("kernel-uek-core", version.clone()),
            AdvisoryStatus::Ranges { ranges: vec![range] }
        );
        for package in ["kernel", "bpftool"] {
            let fixed = AdvisoryStatus::Fixed { version: version.clone() };
            assert_eq!(of_oracle(package, version.clone()), fixed);
        }
    }

    #[test]
    fn a_kernel_for_clouds_is_fixed_where_the_distributions_own_is() {
        assert_eq!(of_rocky("4.18.0-553.16.1.el8_10.cloud.0.1"), "4.18.0-553.16.1.el8_10");
        assert_eq!(of_rocky("4.18.0-553.16.1.el8_10"), "4.18.0-553.16.1.el8_10");
    }
}
