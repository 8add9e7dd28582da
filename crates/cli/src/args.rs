//! What can be typed.

pub(crate) mod account;
pub(crate) mod evidence;
pub(crate) mod feed;
pub(crate) mod key;
pub(crate) mod planning;
pub(crate) mod report;
mod rollouts;
mod server;

pub(crate) use rollouts::{Because, Plan, Recall, Rollout};
pub(crate) use server::ServerArgs;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fettle_core::Timestamp;
use fettle_core::finding::FindingState;
use fettle_wire::api::HOST_STATES;
use std::path::PathBuf;

/// Fettle keeps a fleet of Linux hosts patched, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "fettle", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// Where the server's API is.
    #[arg(
        long,
        global = true,
        env = "FETTLE_SERVER",
        default_value = "http://127.0.0.1:8440",
        value_name = "URL"
    )]
    pub(crate) server: String,
    /// File with your token.
    #[arg(
        long,
        global = true,
        env = "FETTLE_TOKEN_FILE",
        default_value = "/var/lib/fettle/operator.token",
        value_name = "FILE"
    )]
    pub(crate) token_file: PathBuf,
    /// Tables for people, or the API's JSON for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// The API's value.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: API, web pages, the agents' endpoint.
    Server(ServerArgs),
    /// Make the first account of a new server, an admin's; afterwards this is closed for good.
    Setup(account::SetUp),
    /// Machines with an agent.
    #[command(subcommand)]
    Host(Host),
    /// Lists of hosts under a name: saved views.
    #[command(subcommand)]
    View(Views),
    /// Vulnerabilities on hosts.
    #[command(subcommand)]
    Finding(Finding),
    /// Packages over the fleet.
    #[command(subcommand)]
    Package(Package),
    /// Software bills of materials.
    #[command(subcommand)]
    Sbom(Sbom),
    /// Find a host, package, CVE, policy, plan or rollout by a part of its name.
    Search {
        /// The text.
        q: String,
    },
    /// One vulnerability over the fleet.
    Cve {
        /// `CVE-2024-5535`.
        id: String,
    },
    /// What is open in the fleet and has a fix, worst first; ends with code 7 when that is more than is allowed, and with
    /// code 10 when nobody can say: no host is judged, or the vulnerability data are too old.
    Exposure(Exposure),
    /// What is owed to which hosts.
    #[command(subcommand)]
    Policy(Policy),
    /// When hosts may be changed.
    #[command(subcommand)]
    Window(Window),
    /// The exact change decided for a set of hosts.
    #[command(subcommand)]
    Plan(Plan),
    /// Ring 0: a plan's changes tried on twins of its hosts.
    #[command(subcommand)]
    Testbed(Testbed),
    /// Plans carried out in waves.
    #[command(subcommand)]
    Rollout(Rollout),
    /// Versions that nobody is to get.
    #[command(subcommand)]
    Recall(Recall),
    /// What policies do by themselves at their time.
    #[command(subcommand)]
    Cycle(planning::Cycle),
    /// What cannot wait for the next cycle.
    #[command(subcommand)]
    Emergency(planning::Emergency),
    /// Vulnerability data.
    #[command(subcommand)]
    Feed(feed::Feed),
    /// What a period was like: compliance, times, what is overdue and why, rollouts, exceptions.
    Report(report::ReportArgs),
    /// Reports that the server makes by itself.
    #[command(subcommand)]
    Schedule(report::Schedule),
    /// Messages to webhooks that have not arrived.
    #[command(subcommand)]
    Webhook(report::Webhook),
    /// Signed archives of what happened in a period, which anybody can check offline.
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// Who may do what here.
    #[command(subcommand)]
    Operator(Operator),
    /// Accounts: who comes by a name and a password.
    #[command(subcommand)]
    Account(account::Account),
    /// Plan keys: what operators sign plans with, and hosts ask for.
    #[command(subcommand)]
    Key(key::Key),
    /// One-time tokens with which hosts join.
    #[command(subcommand)]
    Token(Token),
    /// The ledger: every decision and outcome.
    #[command(subcommand)]
    Audit(Audit),
    /// Where the web pages are, and how to log in.
    Web,
    /// What is wrong with the server, and what to do.
    Doctor(Doctor),
    /// Copies of everything the server knows; on its own machine, whether it runs or not.
    #[command(subcommand)]
    Backup(Backup),
    /// Make a server out of a backup.
    Restore(Restore),
    /// What the code of an error means, and what to do: the word in brackets behind `error`.
    ExplainError {
        /// `role-needed`; without one, all of them.
        code: Option<String>,
    },
    /// Completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual, a page for each command, into a directory.
    Manual {
        /// It is made where it is missing.
        directory: PathBuf,
    },
}

/// What is looked at.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at this directory in place of asking a server: for one that does not come up. On its own machine.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// With --data: where its backups are.
    #[arg(long, requires = "data", default_value = "/var/backups/fettle", value_name = "DIR")]
    pub(crate) backups: PathBuf,
}

/// What counts. What is not given does not narrow.
#[derive(Debug, Args)]
pub(crate) struct Exposure {
    /// Only this severity, and worse.
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) severity: Option<String>,
    /// Only what is known to be exploited.
    #[arg(long)]
    pub(crate) kev: bool,
    /// Only this class of a policy.
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// `overdue`: only what is past a deadline somewhere.
    #[arg(long, value_name = "WHEN")]
    pub(crate) due: Option<String>,
    /// So many vulnerabilities are no reason to stop.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) allow: u64,
}

/// Backups.
#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Back up the database: everything but the keys.
    Create {
        /// A file that is not there yet, or a directory, in which it is named by the time.
        file: PathBuf,
        /// Where database and keys are.
        #[arg(long, default_value = "/var/lib/fettle", value_name = "DIR")]
        data: PathBuf,
    },
    /// Back up the keys and the operator's token: once, and again when they change.
    Keys {
        /// A file that is not there yet, or a directory.
        file: PathBuf,
        /// Where database and keys are.
        #[arg(long, default_value = "/var/lib/fettle", value_name = "DIR")]
        data: PathBuf,
    },
    /// Say whether a backup can be restored.
    Verify {
        /// The backup.
        file: PathBuf,
    },
}

/// Restoring.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) file: PathBuf,
    /// The keys of the same server, as `backup keys` wrote them.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// Where the server's data is to be; it must hold no server.
    #[arg(long, default_value = "/var/lib/fettle", value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// Hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// Hosts, by name where no other order is asked for.
    List(HostList),
    /// One host: what it runs, what it owes, what was done to it.
    Show {
        /// Name or id.
        host: String,
    },
    /// A person has looked after a quarantined host: it counts again.
    Release {
        /// Name or id.
        host: String,
        /// What was found and done; goes to the ledger.
        #[arg(long)]
        reason: String,
    },
    /// A host leaves the fleet: its certificate is worth nothing from now on.
    Retire {
        /// Name or id.
        host: String,
        /// The host's name once more, so that the wrong one does not go.
        #[arg(long, value_name = "HOST")]
        confirm: String,
    },
}

/// Lists of hosts under a name.
#[derive(Debug, Subcommand)]
pub(crate) enum Views {
    /// One's own views, and those that others share.
    List,
    /// Save a list of hosts, in place of one's own of that name.
    Save {
        /// What it is to be called.
        name: String,
        /// The query of the list, as it stands behind `?` in the address of its page.
        #[arg(long, value_name = "QUERY")]
        query: String,
        /// Everybody is to see it; needs the role operator.
        #[arg(long)]
        shared: bool,
    },
    /// Take a view away.
    Remove {
        /// Its name.
        name: String,
        /// Somebody else's that is shared; needs the role admin.
        #[arg(long, value_name = "NAME")]
        owner: Option<String>,
    },
}

/// Which hosts. What is not given does not narrow.
#[derive(Debug, Args)]
pub(crate) struct HostList {
    /// Those of a saved view: one's own of that name, or one that somebody shares.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["q", "state", "label", "select", "policy", "ring", "package", "cve", "sort"])]
    pub(crate) view: Option<String>,
    /// Text in the name.
    #[arg(long, value_name = "TEXT")]
    pub(crate) q: Option<String>,
    /// Only this state.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(HOST_STATES))]
    pub(crate) state: Option<String>,
    /// Only hosts with this label.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Option<String>,
    /// Only hosts that this selector means: `env=prod and os.codename=bookworm`.
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) select: Option<String>,
    /// Only hosts that this policy governs.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Only hosts of this ring of their policy.
    #[arg(long)]
    pub(crate) ring: Option<String>,
    /// Only hosts with this package: `openssl`, or `openssl=3.0.14-1` for that version.
    #[arg(long, value_name = "NAME[=VERSION]")]
    pub(crate) package: Option<String>,
    /// Only hosts that still run this vulnerability.
    #[arg(long, value_name = "ID")]
    pub(crate) cve: Option<String>,
    /// name, state, open, overdue, pending, no-fix, fixed, upgrades or seen; `-open` for the largest first.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) limit: u32,
}

/// Packages over the fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum Package {
    /// Installed packages, counted over the fleet.
    List {
        /// Text in the name or the source package.
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
        /// Only those with an open finding on some host.
        #[arg(long)]
        exposed: bool,
        /// name, hosts, versions, exposed or upgradable; `-hosts` for the largest first.
        #[arg(long, allow_hyphen_values = true)]
        sort: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One package: which versions, who is offered another, what is wrong with it.
    Show {
        /// Its name.
        name: String,
    },
}

/// Findings.
#[derive(Debug, Subcommand)]
pub(crate) enum Finding {
    /// Findings, worst first.
    List {
        /// Only this host (name or id).
        #[arg(long)]
        host: Option<String>,
        /// Only this state.
        #[arg(long, value_parser = FindingState::ALL.map(|s| s.word()))]
        state: Option<String>,
        /// Only this severity.
        #[arg(long, value_parser = ["critical", "high", "medium", "low", "negligible"])]
        severity: Option<String>,
        /// Only open ones that are overdue, or due within a day.
        #[arg(long, value_parser = ["overdue", "soon"])]
        due: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u64,
    },
    /// Why a finding counts, and what to do.
    Explain {
        /// Name or id.
        host: String,
        /// `CVE-2024-5535`.
        id: String,
        /// Source package, where several are concerned.
        #[arg(long)]
        source: Option<String>,
    },
}

/// Software bills of materials.
#[derive(Debug, Subcommand)]
pub(crate) enum Sbom {
    /// Hand in what something without an agent holds (an image, an appliance): it is judged and shown as a host, and
    /// nothing is ever done to it.
    Import {
        /// What it is to be called; of one that was handed in before, its name.
        name: String,
        /// CycloneDX or SPDX 2, in JSON.
        file: PathBuf,
        /// Of which system its packages are, where the document does not say: `bookworm`, `almalinux:9`.
        #[arg(long)]
        release: Option<String>,
        /// `key=value`, again for several, in place of those it has.
        #[arg(long, value_name = "KEY=VALUE")]
        label: Vec<String>,
    },
    /// What a host has and what was found on it, as CycloneDX 1.6 with VEX.
    Export {
        /// Name or id.
        host: String,
        /// Where to; standard output where none is named.
        file: Option<PathBuf>,
    },
    /// The same of a group of hosts, or of all: each component once, with how many hosts have it, and which.
    Fleet {
        /// Where to; standard output where none is named.
        file: Option<PathBuf>,
        /// Only hosts that this selector means: `env=prod and os.codename=bookworm`.
        #[arg(long, value_name = "SELECTOR")]
        select: Option<String>,
    },
}

/// Policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check policy files; needs no server.
    Check {
        /// TOML files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// What a policy would change if it were applied now: settings, hosts, windows, deadlines.
    Diff {
        /// TOML file.
        file: PathBuf,
    },
    /// Put a policy in force, and say what that changes.
    Apply {
        /// TOML file.
        file: PathBuf,
        /// Only while the one of its name in force has this digest; `none`: only while there is none.
        #[arg(long = "if", value_name = "DIGEST")]
        in_force: Option<String>,
    },
    /// Policies in force.
    List,
    /// The text of one.
    Show {
        /// Its name.
        name: String,
        /// This version instead of the one in force.
        #[arg(value_name = "VERSION")]
        number: Option<u64>,
    },
    /// Every version of one, with who applied it and when.
    History {
        /// Its name.
        name: String,
    },
    /// Which policy counts for a host and why; what it owes, by when and by which rule; what stands in the way.
    Explain {
        /// Name or id.
        host: String,
    },
}

/// Windows.
#[derive(Debug, Subcommand)]
pub(crate) enum Window {
    /// The next times at which the hosts of a policy may be changed.
    Preview {
        /// Name of a policy in force, or a TOML file, for which no server is needed.
        policy: String,
        /// How many, at most.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
        /// From this instant on (`2027-01-31T06:00:00Z`) instead of now.
        #[arg(long)]
        from: Option<Timestamp>,
    },
}

/// Tests on twins.
#[derive(Debug, Subcommand)]
pub(crate) enum Testbed {
    /// Tests, newest first.
    List {
        /// Only those asked for by this plan.
        #[arg(long)]
        plan: Option<u64>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// One test: what came of it, how near the twin was, what it does not show.
    Show {
        /// Its number, or the beginning of a cohort's digest: the newest test of it.
        test: String,
    },
    /// How much of a plan is covered by good tests.
    Coverage {
        /// The plan's number.
        plan: u64,
    },
    /// Have a twin of each cohort of a plan, or of one host, built and tested; what has a good test is not tested again.
    Run {
        /// The plan's number.
        #[arg(required_unless_present = "host")]
        plan: Option<u64>,
        /// Instead of a plan: what its policy means for this host now (id or name).
        #[arg(long, conflicts_with = "plan")]
        host: Option<String>,
        /// Also what was tested and did not end well.
        #[arg(long)]
        again: bool,
        /// Wait until all are tested; ends with an error where the coverage is not whole, or the host's test not passed,
        /// then.
        #[arg(long)]
        wait: bool,
    },
}

/// Operators.
#[derive(Debug, Subcommand)]
pub(crate) enum Operator {
    /// Add an operator. Their token is shown once.
    Add {
        /// Their name; nobody else has or had it.
        name: String,
        #[command(flatten)]
        roles: account::Roles,
        /// How long the token is good: `12h`, `90d`. Default: until it is revoked.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Give an operator a new token; the one before is worth nothing from now on.
    Renew {
        /// Their name.
        name: String,
        /// How long the token is good: `12h`, `90d`. Default: until it is revoked.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// All operators, the revoked ones too.
    List,
    /// An operator may do nothing from now on, and their approvals count no more.
    Revoke {
        /// Their name.
        name: String,
    },
}

/// Tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token. It is shown once and works once.
    Create {
        /// Label that the host gets, `key=value`; may be given several times.
        #[arg(long)]
        label: Vec<String>,
        /// How long it can be used: `30m`, `1h`, `24h`.
        #[arg(long, default_value = "1h")]
        ttl: String,
    },
}

/// The ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Verify that nothing was edited, deleted, inserted or reordered.
    Verify {
        /// An export, verified without a server.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Print all entries, one JSON object a line.
    Export,
}
