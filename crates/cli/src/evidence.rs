//! Evidence packs: fetched from a server, checked without one.

use crate::args::Output;
use crate::args::evidence::Evidence;
use crate::client::escape;
use crate::commands::Ask;
use crate::output::{hint, json, line};
use fettle_core::{Problem, ProblemKind};
use fettle_server::evidence::verify::{self, Verified};
use fettle_server::web::words;
use fettle_wire::api::EvidenceKey;
use std::path::Path;

/// Runs one of them.
pub(crate) fn run(ask: &Ask<'_>, it: &Evidence) -> Result<(), Problem> {
    match it {
        Evidence::Export { file, from, to } => {
            let all = [("from", from), ("to", to)];
            let given =
                all.iter().filter_map(|(k, v)| Some(format!("{k}={}", escape((*v).as_ref()?))));
            let query = given.collect::<Vec<_>>().join("&");
            let client = ask.client()?;
            let pack = client.get_bytes(&format!("/evidence?{query}"))?;
            let key: EvidenceKey = client.get("/evidence/key")?;
            std::fs::write(file, &pack).map_err(|e| unusable(file, "written", &e))?;
            // What is handed on has been checked as whoever gets it will check it.
            let verified = verify::verify(pack.as_slice(), &key.key)?;
            told(ask.output(), file, &verified, &key.key)
        }
        Evidence::Verify { file, key } => {
            let pack = std::fs::File::open(file).map_err(|e| unusable(file, "read", &e))?;
            let verified = verify::verify(std::io::BufReader::new(pack), key)?;
            told(ask.output(), file, &verified, key)
        }
        Evidence::Key => ask.get("/evidence/key", |it: &EvidenceKey| {
            line(&it.key);
            hint("whoever checks a pack needs it, by another way than the pack");
        }),
    }
}

fn unusable(file: &Path, what: &str, error: &std::io::Error) -> Problem {
    let message = format!("{} cannot be {what}: {error}", file.display());
    Problem::new(ProblemKind::Environment, "file", message, "name a file that you may use")
}

fn told(output: Output, file: &Path, it: &Verified, key: &str) -> Result<(), Problem> {
    if output == Output::Json {
        return json(it);
    }
    line(&format!("{} holds: {} to {}", file.display(), words::utc(it.from), words::utc(it.to)));
    line(&format!(
        "  ledger        entries {} to {}, one chain; head {}",
        it.ledger.after + 1,
        it.ledger.last,
        it.ledger.head
    ));
    line(&format!(
        "  rollouts      {}; {} events stand in this part of the ledger, {} in others",
        it.rollouts, it.events_in_ledger, it.events_elsewhere
    ));
    line(&format!(
        "  orders        {} signed, as the rollouts gave them{}",
        it.orders,
        gone(it.orders_missing)
    ));
    line(&format!(
        "  transactions  {} told by the hosts' own journals{}",
        it.transactions,
        gone(it.transactions_missing)
    ));
    line(&format!("  proved gone   {} findings", it.fixed));
    hint(&format!("fettle evidence verify {} --key {key}", file.display()));
    Ok(())
}

fn gone(n: u64) -> String {
    if n == 0 { String::new() } else { format!("; {n} not here: their hosts were retired") }
}
