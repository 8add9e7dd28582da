//! How `fettle server` is told what to do.

use crate::log::LogFormat;
use clap::Args;
use fettle_server::ServerOptions;
use fettle_server::notices::Recipient;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How the server runs. What has a variable can be set in `/etc/fettle/server.env` too.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where database and keys are.
    #[arg(long, env = "FETTLE_SERVER_DATA", default_value = "/var/lib/fettle", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where backups are made; looked at by `fettle doctor`.
    #[arg(
        long,
        env = "FETTLE_SERVER_BACKUPS",
        default_value = "/var/backups/fettle",
        value_name = "DIR"
    )]
    pub(crate) backups: PathBuf,
    /// Where reports on a schedule are kept. Default: in `reports` beside the database.
    #[arg(long, env = "FETTLE_SERVER_REPORTS", value_name = "DIR")]
    pub(crate) reports: Option<PathBuf>,
    /// Who is told as soon as a rollout halts or ends, or a host needs a person: an address that takes a POST, with commas
    /// between several. Of a chat tool with its name before it: slack+https://…; also mattermost, teams, discord.
    #[arg(
        long,
        env = "FETTLE_SERVER_NOTIFY",
        value_delimiter = ',',
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    pub(crate) notify: Vec<Recipient>,
    /// Who is sent traces, by OTLP over HTTP: the address of a receiver without the path, as http://127.0.0.1:4318.
    #[cfg(feature = "otlp")]
    #[arg(long, env = "FETTLE_SERVER_OTLP", value_name = "ADDRESS")]
    pub(crate) otlp: Option<fettle_server::otlp::Address>,
    /// How the log is written, on standard error: lines for people, or one JSON object a line.
    #[arg(
        long,
        env = "FETTLE_SERVER_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    /// Address of API and web pages; loopback only.
    #[arg(
        long,
        env = "FETTLE_SERVER_OPERATOR_LISTEN",
        default_value = "127.0.0.1:8440",
        value_name = "ADDRESS"
    )]
    pub(crate) operator_listen: SocketAddr,
    /// Address for agents.
    #[arg(
        long,
        env = "FETTLE_SERVER_AGENTS_LISTEN",
        default_value = "0.0.0.0:8441",
        value_name = "ADDRESS"
    )]
    pub(crate) agents_listen: SocketAddr,
    /// Other names or addresses that agents know the server by, with commas.
    #[arg(long = "name", env = "FETTLE_SERVER_NAMES", value_delimiter = ',', value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Seconds between check-ins of an idle agent.
    #[arg(long, env = "FETTLE_SERVER_CHECKIN_IDLE", default_value_t = 60, value_name = "SECONDS")]
    pub(crate) checkin_idle: u32,
    /// Seconds between check-ins of an agent at work.
    #[arg(long, env = "FETTLE_SERVER_CHECKIN_BUSY", default_value_t = 1, value_name = "SECONDS")]
    pub(crate) checkin_busy: u32,
}

impl ServerArgs {
    /// As the server takes them; what cannot be said here stays as [`ServerOptions`] has it.
    pub(crate) fn options(&self) -> ServerOptions {
        ServerOptions {
            data_dir: self.data.clone(),
            backups_dir: self.backups.clone(),
            reports_dir: self.reports.clone(),
            notify: self.notify.clone(),
            operator: self.operator_listen,
            agents: self.agents_listen,
            names: self.names.clone(),
            checkin_idle_seconds: self.checkin_idle,
            checkin_busy_seconds: self.checkin_busy,
            ..ServerOptions::default()
        }
    }
}
