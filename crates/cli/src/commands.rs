//! Each command: ask the API, print the answer.

use crate::args::{
    Audit, Because, Cli, Command, Finding, Host, HostList, Operator, Output, Package, Plan,
    Rollout, Sbom, Token, Window,
};
use crate::client::{Client, escape};
use crate::output::{self, hint, json, line};
use crate::{
    access, account, evidence, exposure, feed, key, planning, policy, policy_check, recall, report,
    schedule, show, testbed, views, watch, window,
};
use clap::CommandFactory as _;
use fettle_core::host::{Labels, parse_label};
use fettle_core::ledger::{LedgerEntry, LedgerVerifier};
use fettle_core::plan::PlanDiff;
use fettle_core::policy::Policy as Parsed;
use fettle_core::{Digest, Problem, ProblemKind, Timestamp};
use fettle_wire::api::{
    ApproveWave, CveDetail, FindingExplained, FindingRow, Found, HostDetail, HostRow,
    LedgerVerified, MakePlan, MakeToken, OperatorRow, PackageDetail, PackageRow, Page, PlanDetail,
    PolicyRow, RolloutDetail, RolloutRow, StartRollout, TokenMade,
};
use fettle_wire::errors;
use serde::{Serialize, de::DeserializeOwned};
use std::io::BufRead as _;
use std::path::Path;

/// Runs a command against the server; those that need none run without.
pub(crate) fn run(cli: &Cli) -> Result<(), Problem> {
    let ask = Ask { cli };
    match &cli.command {
        // `main` does these itself.
        Command::Server(_) | Command::Backup(_) | Command::Restore(_) => Ok(()),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "fettle", &mut std::io::stdout());
            Ok(())
        }
        Command::ExplainError { code } => explain_error(code.as_deref()),
        Command::Doctor(it) => crate::doctor::run(&ask, it),
        Command::Manual { directory } => crate::manual::manual(directory),
        Command::Audit(Audit::Verify { file: Some(file) }) => verify_file(file, cli.globals.output),
        Command::View(it) => views::run(&ask, it),
        Command::Host(Host::List(HostList { view: Some(name), limit, .. })) => {
            views::hosts(&ask, name, *limit)
        }
        Command::Host(Host::List(it)) => {
            let limit = it.limit.to_string();
            let path = with_query(
                "/hosts",
                &[
                    ("limit", Some(&limit)),
                    ("q", it.q.as_ref()),
                    ("state", it.state.as_ref()),
                    ("label", it.label.as_ref()),
                    ("select", it.select.as_ref()),
                    ("policy", it.policy.as_ref()),
                    ("ring", it.ring.as_ref()),
                    ("package", it.package.as_ref()),
                    ("cve", it.cve.as_ref()),
                    ("sort", it.sort.as_ref()),
                ],
            );
            ask.get(&path, |page: &Page<HostRow>| show::host::list(page, path.contains('&')))
        }
        Command::Package(Package::List { q, exposed, sort, limit }) => {
            let (limit, exposed) = (limit.to_string(), exposed.to_string());
            let path = with_query(
                "/packages",
                &[
                    ("limit", Some(&limit)),
                    ("q", q.as_ref()),
                    ("exposed", Some(&exposed)),
                    ("sort", sort.as_ref()),
                ],
            );
            ask.get(&path, |page: &Page<PackageRow>| show::package::list(page))
        }
        Command::Package(Package::Show { name }) => {
            let path = format!("/packages/{}", escape(name));
            ask.get(&path, |package: &PackageDetail| show::package::one(package))
        }
        Command::Sbom(Sbom::Export { host, file }) => sbom(&ask, host, file.as_deref()),
        Command::Sbom(Sbom::Fleet { file, select }) => {
            fleet_sbom(&ask, select.as_ref(), file.as_deref())
        }
        Command::Sbom(Sbom::Import { name, file, release, label }) => {
            import_sbom(&ask, name, file, release.as_deref(), label)
        }
        Command::Search { q } => {
            let path = with_query("/search", &[("q", Some(q))]);
            ask.get(&path, |found: &Found| show::package::found(found))
        }
        Command::Host(Host::Show { host }) => {
            ask.get(&format!("/hosts/{}", escape(host)), |host: &HostDetail| show::host::one(host))
        }
        Command::Host(Host::Release { host, reason }) => {
            let body =
                fettle_wire::api::Because { reason: reason.clone(), hosts: Vec::new(), wave: None };
            let path = format!("/hosts/{}/release", escape(host));
            let detail: HostDetail = ask.client()?.post(&path, &body)?;
            ask.print(&detail, |detail| {
                line(&format!("{} is released from quarantine", detail.row.name));
                hint(&format!("fettle host show {}", detail.row.name));
            })
        }
        Command::Host(Host::Retire { host, confirm }) => retire(&ask, host, confirm),
        Command::Finding(Finding::List { host, state, severity, due, limit }) => {
            let mut path = format!("/findings?limit={limit}");
            for (key, value) in
                [("host", host), ("state", state), ("severity", severity), ("due", due)]
            {
                if let Some(value) = value {
                    path.push_str(&format!("&{key}={}", escape(value)));
                }
            }
            ask.get(&path, |page: &Page<FindingRow>| show::finding::list(page))
        }
        Command::Finding(Finding::Explain { host, id, source }) => {
            explain(&ask, host, id, source.as_deref())
        }
        Command::Exposure(it) => exposure::run(&ask, it),
        Command::Cve { id } => {
            ask.get(&format!("/cves/{}", escape(id)), |cve: &CveDetail| show::finding::cve(cve))
        }
        Command::Policy(it) => policy::run(&ask, it),
        Command::Window(Window::Preview { policy, count, from }) => {
            let policy = policy_named(&ask, policy)?;
            let now = || Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
            let from = from.unwrap_or_else(now);
            window::preview(&policy, from, usize::from(*count), cli.globals.output)
        }
        Command::Plan(Plan::Make { policy, host }) => {
            let body = MakePlan { policy: policy.clone(), hosts: host.clone() };
            let plan: PlanDetail = ask.client()?.post("/plans", &body)?;
            ask.print(&plan, show::plan::one)
        }
        Command::Plan(Plan::Show { number }) => {
            ask.get(&format!("/plans/{number}"), |plan: &PlanDetail| show::plan::one(plan))
        }
        Command::Plan(Plan::Diff { from, to }) => {
            let path = format!("/plans/{}/diff/{}", escape(from), escape(to));
            ask.get(&path, |diff: &PlanDiff| show::plan_report::diff(diff))
        }
        Command::Plan(Plan::Approve { number, digest, comment }) => {
            access::approve(&ask, *number, digest.as_deref(), comment)
        }
        Command::Plan(Plan::Sign { number, key, digest, valid }) => {
            key::sign_plan(&ask, *number, key, digest.as_deref(), valid)
        }
        Command::Key(it) => key::run(&ask, it),
        Command::Plan(Plan::Withdraw { number }) => access::withdraw(&ask, *number),
        Command::Operator(Operator::Add { name, roles, expires }) => {
            access::add(&ask, name, roles.all(), expires.as_deref())
        }
        Command::Operator(Operator::Renew { name, expires }) => {
            access::renew(&ask, name, expires.as_deref())
        }
        Command::Operator(Operator::List) => ask
            .get("/operators?limit=100000", |page: &Page<OperatorRow>| show::operator::list(page)),
        Command::Operator(Operator::Revoke { name }) => access::revoke(&ask, name),
        Command::Account(it) => account::run(&ask, it),
        Command::Setup(it) => account::set_up(&ask, it),
        Command::Testbed(it) => testbed::run(&ask, it),
        Command::Rollout(rollout) => run_rollout(&ask, rollout),
        Command::Recall(it) => recall::run(&ask, it),
        Command::Feed(it) => feed::run(&ask, it),
        Command::Evidence(it) => evidence::run(&ask, it),
        Command::Report(it) => report::run(&ask, it),
        Command::Schedule(it) => schedule::run(&ask, it),
        Command::Webhook(it) => schedule::webhook(&ask, it),
        Command::Cycle(it) => planning::cycle(&ask, it),
        Command::Emergency(it) => planning::emergency(&ask, it),
        Command::Token(Token::Create { label, ttl }) => create_token(&ask, label, ttl),
        Command::Audit(Audit::Verify { file: None }) => {
            let verified: LedgerVerified = ask.client()?.get("/ledger/verify")?;
            ask.print(&verified, |v| {
                line(&format!("{} entries hold, head {}", v.entries, v.head))
            })?;
            match verified.broken {
                None => Ok(()),
                Some(broken) => Err(broken_ledger(&broken)),
            }
        }
        Command::Audit(Audit::Export) => export(&ask.client()?),
        Command::Web => {
            let client = ask.client()?;
            line(&format!(
                "{}/  log in with your name and password, or with the token in {}",
                client.base(),
                cli.globals.token_file.display()
            ));
            Ok(())
        }
    }
}

/// Prints what a code means; needs no server.
fn explain_error(code: Option<&str>) -> Result<(), Problem> {
    let Some(code) = code else {
        errors::all().iter().for_each(|page| line(page.code));
        return Ok(());
    };
    let page = errors::page(code).ok_or_else(|| {
        let message = format!("no error of this version has the code `{code}`");
        Problem::new(ProblemKind::NotFound, "not-found", message, "fettle explain-error lists all")
    })?;
    line(page.code);
    for paragraph in page.paragraphs() {
        line("");
        line(&paragraph);
    }
    Ok(())
}

/// A policy: of a file where there is one of that name, else the one in force.
fn policy_named(ask: &Ask<'_>, name: &str) -> Result<Parsed, Problem> {
    let file = Path::new(name);
    if name.ends_with(".toml") || file.is_file() {
        let text = policy_check::read(file)?;
        return Parsed::parse(&text).map_err(|_| {
            Problem::new(
                ProblemKind::BadInput,
                "policy-malformed",
                format!("{name} is no policy as it stands"),
                format!("fettle policy check {name} says what is wrong with it"),
            )
        });
    }
    let row: PolicyRow = ask.client()?.get(&format!("/policies/{}", escape(name)))?;
    Parsed::parse(&row.text).map_err(|_| {
        Problem::new(
            ProblemKind::Internal,
            "policy-unknown-format",
            format!("the policy `{name}` in force was written for another version of Fettle"),
            "use the `fettle` of the server's version",
        )
    })
}

/// What every command has at hand.
pub(crate) struct Ask<'a> {
    cli: &'a Cli,
}

impl Ask<'_> {
    pub(crate) fn client(&self) -> Result<Client, Problem> {
        Client::new(&self.cli.globals)
    }

    /// One that asks in nobody's name.
    pub(crate) fn stranger(&self) -> Client {
        Client::stranger(&self.cli.globals)
    }

    pub(crate) fn output(&self) -> Output {
        self.cli.globals.output
    }

    pub(crate) fn print<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&T),
    ) -> Result<(), Problem> {
        match self.cli.globals.output {
            Output::Json => json(value),
            Output::Table => {
                table(value);
                Ok(())
            }
        }
    }

    pub(crate) fn get<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        table: impl FnOnce(&T),
    ) -> Result<(), Problem> {
        let value: T = self.client()?.get(path)?;
        self.print(&value, table)
    }
}

/// The path with what was given.
fn with_query(path: &str, all: &[(&str, Option<&String>)]) -> String {
    let given = all.iter().filter_map(|(key, value)| value.map(|v| format!("{key}={}", escape(v))));
    format!("{path}?{}", given.collect::<Vec<_>>().join("&"))
}

fn explain(ask: &Ask<'_>, host: &str, id: &str, source: Option<&str>) -> Result<(), Problem> {
    let client = ask.client()?;
    let source = match source {
        Some(source) => source.to_owned(),
        None => {
            let path = format!("/findings?host={}&id={}&limit=10", escape(host), escape(id));
            let page: Page<FindingRow> = client.get(&path)?;
            let first = page.items.first().ok_or_else(|| {
                Problem::new(
                    ProblemKind::NotFound,
                    "finding-unknown",
                    format!("{host} has no finding {id}"),
                    format!("see what it has: fettle finding list --host {host}"),
                )
            })?;
            first.finding.source.clone()
        }
    };
    let path = format!("/findings/{}/{}/{}", escape(host), escape(id), escape(&source));
    let explained: FindingExplained = client.get(&path)?;
    ask.print(&explained, show::finding::explain)
}

fn run_rollout(ask: &Ask<'_>, rollout: &Rollout) -> Result<(), Problem> {
    let operate = |because: &Because, what: &str, hosts: &[String], wave: Option<u32>| {
        let (reason, hosts) = (because.reason.clone(), hosts.to_vec());
        // People count waves from 1.
        let body = fettle_wire::api::Because { reason, hosts, wave: wave.map(|w| w - 1) };
        let path = format!("/rollouts/{}/{what}", escape(&because.id));
        let detail: RolloutDetail = ask.client()?.post(&path, &body)?;
        ask.print(&detail, show::rollout::one)
    };
    match rollout {
        Rollout::Start { plan, digest } => {
            let digest = digest_of(*plan, digest.as_deref())?;
            let detail: RolloutDetail =
                ask.client()?.post("/rollouts", &StartRollout { plan: *plan, digest })?;
            ask.print(&detail, |d| {
                line(&format!(
                    "rollout {} started: {} hosts in {} waves",
                    d.row.id,
                    d.hosts.len(),
                    d.row.waves
                ));
                hint(&format!("fettle rollout watch {}", d.row.id));
            })
        }
        Rollout::Watch { id } => watch::watch(&ask.client()?, id),
        Rollout::Pause(because) => operate(because, "pause", &[], None),
        Rollout::Resume(because) => operate(because, "resume", &[], None),
        Rollout::Abort(because) => operate(because, "abort", &[], None),
        Rollout::Undo { because, host, wave } => operate(because, "undo", host, *wave),
        Rollout::Approve { id, wave, comment } => {
            let body = ApproveWave { wave: wave - 1, comment: comment.clone() };
            let path = format!("/rollouts/{}/approve", escape(id));
            let detail: RolloutDetail = ask.client()?.post(&path, &body)?;
            ask.print(&detail, show::rollout::one)
        }
        Rollout::List => ask.get("/rollouts", |page: &Page<RolloutRow>| show::rollout::list(page)),
        Rollout::Show { id } => ask
            .get(&format!("/rollouts/{}", escape(id)), |detail: &RolloutDetail| {
                show::rollout::one(detail)
            }),
    }
}

fn import_sbom(
    ask: &Ask<'_>,
    name: &str,
    file: &Path,
    release: Option<&str>,
    labels: &[String],
) -> Result<(), Problem> {
    let bytes = std::fs::read(file).map_err(|e| {
        let message = format!("{} cannot be read: {e}", file.display());
        let hint = "name a CycloneDX or SPDX 2 document in JSON";
        Problem::new(ProblemKind::BadInput, "sbom-unusable", message, hint)
    })?;
    let mut query: Vec<String> = Vec::new();
    query.extend(release.map(|release| format!("release={}", escape(release))));
    if !labels.is_empty() {
        query.push(format!("labels={}", escape(&labels.join(","))));
    }
    let path = format!("/hosts/{}/sbom?{}", escape(name), query.join("&"));
    let detail: HostDetail = ask.client()?.post_bytes(&path, "application/octet-stream", &bytes)?;
    ask.print(&detail, show::host::one)
}

/// The document itself is what is asked for, whatever `-o` says.
fn sbom(ask: &Ask<'_>, host: &str, file: Option<&Path>) -> Result<(), Problem> {
    let document: serde_json::Value =
        ask.client()?.get(&format!("/hosts/{}/sbom", escape(host)))?;
    let Some(file) = file else { return json(&document) };
    std::fs::write(file, format!("{document:#}\n")).map_err(|e| not_written(file, &e))?;
    let count = |of: &str| document[of].as_array().map_or(0, Vec::len);
    let (components, found) = (count("components"), count("vulnerabilities"));
    line(&format!("{}: {components} components, {found} findings", file.display()));
    Ok(())
}

/// The same of many hosts, written as it comes.
fn fleet_sbom(ask: &Ask<'_>, select: Option<&String>, file: Option<&Path>) -> Result<(), Problem> {
    let path = with_query("/sbom", &[("select", select)]);
    let Some(file) = file else {
        return ask.client()?.save(&path, &mut std::io::stdout().lock()).map(drop);
    };
    let client = ask.client()?;
    let mut to = std::fs::File::create(file).map_err(|e| not_written(file, &e))?;
    let bytes = client.save(&path, &mut to)?;
    to.sync_all().map_err(|e| not_written(file, &e))?;
    line(&format!("{}: {bytes} bytes", file.display()));
    Ok(())
}

fn not_written(file: &Path, error: &std::io::Error) -> Problem {
    let message = format!("{} cannot be written: {error}", file.display());
    Problem::new(ProblemKind::Environment, "file", message, "name a file that you may write")
}

fn retire(ask: &Ask<'_>, host: &str, confirm: &str) -> Result<(), Problem> {
    if host != confirm {
        return Err(Problem::new(
            ProblemKind::Usage,
            "not-confirmed",
            format!("`{host}` is to be retired, and `{confirm}` was confirmed"),
            format!("fettle host retire {host} --confirm {host}"),
        ));
    }
    ask.client()?.delete(&format!("/hosts/{}", escape(host)))?;
    ask.print(&serde_json::json!({ "retired": host }), |_| {
        line(&format!("{host} has left the fleet"));
        hint("on the host: systemctl disable --now fettle-agent");
    })
}

fn create_token(ask: &Ask<'_>, label: &[String], ttl: &str) -> Result<(), Problem> {
    let labels =
        label.iter().map(|text| parse_label(text)).collect::<Result<Labels, _>>().map_err(
            |error| {
                Problem::new(
                    ProblemKind::Usage,
                    "label",
                    error,
                    "for example: fettle token create --label ring=canary",
                )
            },
        )?;
    let ttl_seconds = seconds(ttl).ok_or_else(|| {
        Problem::new(
            ProblemKind::Usage,
            "ttl",
            format!("`{ttl}` is no duration"),
            "write 30m, 1h or 24h",
        )
    })?;
    let made: TokenMade = ask.client()?.post("/tokens", &MakeToken { labels, ttl_seconds })?;
    ask.print(&made, |made| {
        line(&made.token);
        let until = output::ago(made.expires_at, output::now());
        output::note(&format!("good once, it expires {until}; on the host: fettle-agent enroll --server https://SERVER:8441 --token TOKEN"));
    })
}

/// A plan's digest as it was typed.
pub(crate) fn digest_of(plan: u64, text: Option<&str>) -> Result<Option<Digest>, Problem> {
    text.map(str::parse).transpose().map_err(|error| {
        let hint = format!("fettle plan show {plan} prints the digest");
        Problem::new(ProblemKind::Usage, "digest", error, hint)
    })
}

/// `30s`, `10m`, `2h`, `1d` as seconds.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn broken_ledger(what: &str) -> Problem {
    Problem::new(
        ProblemKind::Refused,
        "ledger-broken",
        format!("the ledger does not hold: {what}"),
        "keep the server's data directory as it is, and compare with your last `fettle audit export`",
    )
}

fn verify_file(file: &Path, output: Output) -> Result<(), Problem> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::new(
            ProblemKind::BadInput,
            "ledger-unreadable",
            format!("{} cannot be read: {error}", file.display()),
            "name a file that `fettle audit export` printed",
        )
    };
    let reader = std::io::BufReader::new(std::fs::File::open(file).map_err(|e| unreadable(&e))?);
    let mut verifier = LedgerVerifier::default();
    for (number, text) in reader.lines().enumerate() {
        let text = text.map_err(|e| unreadable(&e))?;
        let entry: LedgerEntry = serde_json::from_str(&text)
            .map_err(|e| unreadable(&format!("line {}: {e}", number + 1)))?;
        verifier.take(&entry).map_err(|broken| broken_ledger(&broken.to_string()))?;
    }
    let (entries, head) = verifier.head();
    match output {
        Output::Json => json(&LedgerVerified { entries, head, broken: None }),
        Output::Table => {
            line(&format!("{entries} entries hold, head {head}"));
            Ok(())
        }
    }
}

fn export(client: &Client) -> Result<(), Problem> {
    let mut after = 0;
    loop {
        let entries: Vec<LedgerEntry> =
            client.get::<Page<LedgerEntry>>(&format!("/ledger?after={after}&limit=1000"))?.items;
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.index;
        for entry in &entries {
            line(&serde_json::to_string(entry).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_odd_ones_refused() {
        assert_eq!(seconds("30m"), Some(1800));
        assert_eq!(seconds("1d"), Some(86_400));
        for bad in ["", "h", "10", "1w", "-1h", "99999999999999999999h", "1.5h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
