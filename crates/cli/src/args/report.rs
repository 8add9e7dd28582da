//! What can be typed about reports.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Which report, and as what.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// First day or moment of the period: `2026-11-01`, `2026-11-01T06:00:00Z`. Default: 30 days before its end.
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<String>,
    /// Last day of the period, or the moment it ends at. Default: now.
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: Option<String>,
    /// Only this policy's hosts.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Print one table as CSV: `compliance`, `overdue`, `trend`, `rollouts`, `exceptions`.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["html", "pdf"])]
    pub(crate) csv: Option<String>,
    /// Write all of it as one HTML document that needs no server.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write all of it as PDF; Chromium prints it, where that is installed.
    #[arg(long, value_name = "FILE")]
    pub(crate) pdf: Option<PathBuf>,
}

/// Reports on a schedule.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Have the server make a report again and again. In place of what was set by that name before.
    Set(SetSchedule),
    /// All of them: the last, the next, and what stands in the way.
    List,
    /// Make one now, of the period that one due now is of: written and sent as the schedule says.
    Run {
        /// Its name.
        name: String,
    },
    /// Make none any more. What was written and sent stays.
    Remove {
        /// Its name.
        name: String,
    },
}

/// When, of what, as what, and where to.
#[derive(Debug, Args)]
pub(crate) struct SetSchedule {
    /// Its name: lower-case letters, digits and `-`.
    pub(crate) name: String,
    /// On which days, as windows have it (RFC 5545, 3.3.10): `FREQ=MONTHLY;BYMONTHDAY=1`, `FREQ=WEEKLY;BYDAY=MO`.
    #[arg(long, value_name = "RULE")]
    pub(crate) recurrence: String,
    /// At what time of the day.
    #[arg(long, default_value = "06:00", value_name = "TIME")]
    pub(crate) at: String,
    /// Whose time: an IANA name, as in `Europe/Berlin`.
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub(crate) time_zone: String,
    /// Of which period: `last-month`, `last-week`, or so many days, as in `30d`.
    #[arg(long, default_value = "last-month", value_name = "PERIOD")]
    pub(crate) covers: String,
    /// Only this policy's hosts.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// As what, with commas: `html`, `csv`, `json`, and `pdf`, for which Chromium is to be installed on the server.
    #[arg(long, value_delimiter = ',', default_value = "html", value_name = "FORMAT")]
    pub(crate) format: Vec<String>,
    /// Keep the newest so many in the server's directory of reports.
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<u32>,
    /// Send each to this address, signed as Standard Webhooks has it.
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,
}

/// Messages to webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// What has not arrived: what is tried again, and the dead letters, which are not.
    List,
    /// Only the dead letters.
    Dead,
    /// Send a message again, at once and with all its tries; without an id, every dead letter.
    Resend {
        /// As `list` shows it.
        id: Option<String>,
    },
    /// Let a message go: nobody is sent it any more.
    Drop {
        /// As `list` shows it.
        id: String,
    },
}
