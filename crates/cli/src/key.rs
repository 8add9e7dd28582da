//! Plan keys: made, proposed, signed and published; and plans signed with them. Private keys stay in their files: all that
//! is sent is what was signed.

use crate::args::key::Key;
use crate::commands::{Ask, digest_of, seconds};
use crate::output::{ago, hint, line, note, now, print, table};
use fettle_core::plan::OrderTree;
use fettle_core::{Digest, Problem, ProblemKind};
use fettle_wire::api::{PlanDetail, PlanKeys, PlanSigning};
use fettle_wire::plan_key::{
    KeySet, NotFollowed, PlanKey, PlanStatement, SignedKeySet, SignedPlan,
};
use fettle_wire::sign::Signer;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A plan's signature is good for so long unless something else is typed.
pub(crate) const VALID: &str = "7d";

/// Runs `fettle key ...`.
pub(crate) fn run(ask: &Ask<'_>, it: &Key) -> Result<(), Problem> {
    match it {
        Key::New { file } => make(ask, file),
        Key::Show { file } => {
            let public = signer(file)?.public_key();
            ask.print(&serde_json::json!({ "key": public }), |_| line(&public))
        }
        Key::List => ask.get("/plan-keys", show),
        Key::Propose { threshold, keys, out } => propose(ask, *threshold, keys, out),
        Key::Sign { set, key } => sign_set(ask, set, key),
        Key::Publish { set } => {
            let signed = read_set(set)?;
            let keys: PlanKeys = ask.client()?.post("/plan-keys", &signed)?;
            ask.print(&keys, |keys| {
                line(&format!("version {} is in force: {}", keys.version, keys.label));
                hint("fettle plan sign NUMBER --key KEYFILE, before a plan is started");
            })
        }
    }
}

fn unusable(file: &Path, error: &dyn std::fmt::Display, hint: &str) -> Problem {
    let message = format!("{}: {error}", file.display());
    Problem::new(ProblemKind::Environment, "key-file", message, hint)
}

fn make(ask: &Ask<'_>, file: &Path) -> Result<(), Problem> {
    let text = Signer::generate_pem()
        .map_err(|_| unusable(file, &"the system gives no random bytes", "try again"))?;
    let todo = "name a file that is not there yet, in a directory of yours";
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written =
        made.and_then(|mut it| it.write_all(text.as_bytes()).and_then(|()| it.sync_all()));
    written.map_err(|e| unusable(file, &e, todo))?;
    let public = signer(file)?.public_key();
    ask.print(&serde_json::json!({ "key": public }), |_| {
        line(&public);
        note(&format!(
            "your public key; the private one is in {}: keep it off the server, and a copy elsewhere",
            file.display()
        ));
        hint(&format!("fettle key propose --threshold 2 --key me={public} --key … --out keys.json"));
    })
}

fn signer(file: &Path) -> Result<Signer, Problem> {
    let hint = "name the file that `fettle key new` wrote";
    let text = fs::read_to_string(file).map_err(|e| unusable(file, &e, hint))?;
    Signer::from_pem(&text).ok_or_else(|| unusable(file, &"it holds no plan key", hint))
}

fn show(keys: &PlanKeys) {
    if keys.version == 0 {
        line("no plan keys: hosts carry out whatever the server signs");
        hint(
            "fettle key new FILE, then fettle key propose --threshold 2 --key NAME=KEY --out FILE",
        );
        return;
    }
    line(&format!("version {}: {} must have signed a plan", keys.version, keys.label));
    let mut rows = table(&["name", "key"]);
    for key in &keys.keys {
        rows.add_row([&key.name, &key.key]);
    }
    print(&rows);
}

fn read_set(file: &Path) -> Result<SignedKeySet, Problem> {
    let hint = "name the file that `fettle key propose` wrote";
    let bytes = fs::read(file).map_err(|e| unusable(file, &e, hint))?;
    serde_json::from_slice(&bytes).map_err(|e| unusable(file, &e, hint))
}

fn write_set(file: &Path, set: &SignedKeySet) -> Result<(), Problem> {
    let text = serde_json::to_vec_pretty(set).map_err(io::Error::from);
    let written = text.and_then(|mut text| {
        text.push(b'\n');
        fs::write(file, text)
    });
    written.map_err(|e| unusable(file, &e, "name a file in a directory of yours"))
}

fn propose(ask: &Ask<'_>, threshold: u32, keys: &[String], out: &Path) -> Result<(), Problem> {
    let wrong = |what: String| {
        let hint = "for example: fettle key propose --threshold 2 --key alice=… --key bob=… --out keys.json";
        Problem::new(ProblemKind::Usage, "plan-keys", what, hint)
    };
    let key = |text: &String| {
        let (name, key) =
            text.split_once('=').ok_or_else(|| wrong(format!("`{text}` is no NAME=PUBLIC")))?;
        Ok(PlanKey { name: name.to_owned(), key: key.to_owned() })
    };
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, Problem>>()?;
    let before: PlanKeys = ask.client()?.get("/plan-keys")?;
    let set = KeySet::new(before.version + 1, threshold, keys).map_err(|e| wrong(e.to_string()))?;
    write_set(out, &SignedKeySet::unsigned(&set))?;
    ask.print(&set, |set| {
        let file = out.display();
        line(&format!("{file}: version {}, {} must sign a plan", set.version, set.label()));
        if set.is_weak() {
            line("one stolen key is enough to start something: with two people, ask for two");
        }
        let before = if before.version > 0 {
            format!(", and {} of version {}", before.threshold, before.version)
        } else {
            String::new()
        };
        line(&format!("to be signed by {threshold} of its keys{before}"));
        hint(&format!("fettle key sign {file} --key KEYFILE"));
    })
}

fn sign_set(ask: &Ask<'_>, file: &Path, key: &Path) -> Result<(), Problem> {
    let (mut set, signer) = (read_set(file)?, signer(key)?);
    let signed = set.sign(&signer).map_err(|e: NotFollowed| {
        unusable(
            file,
            &e,
            "write it anew: `fettle key propose --threshold 2 --key NAME=KEY --out FILE`",
        )
    })?;
    write_set(file, &set)?;
    ask.print(&set, |set| {
        let given = set.signatures.len();
        line(&format!(
            "signed version {} ({}); it has {given} signatures",
            signed.version,
            signed.label()
        ));
        hint(&format!("fettle key publish {}   (when enough have signed)", file.display()));
    })
}

/// Signs a plan, as it was seen or as it is now, and hands the signature in.
pub(crate) fn sign_plan(
    ask: &Ask<'_>,
    number: u64,
    key: &Path,
    digest: Option<&str>,
    valid: &str,
) -> Result<(), Problem> {
    let signer = signer(key)?;
    let client = ask.client()?;
    let detail: PlanDetail = client.get(&format!("/plans/{number}"))?;
    let seen = digest_of(number, digest)?;
    let statement = statement(&detail, seen, valid)?;
    let signed = SignedPlan::seal(&signer, &statement);
    let detail: PlanDetail = client.post(&format!("/plans/{number}/signatures"), &signed)?;
    ask.print(&detail, |detail| {
        line(&format!(
            "signed plan {number} ({}) until {}",
            statement.digest.short(),
            statement.expires_at
        ));
        if let Some(signing) = &detail.signing {
            signatures(signing);
            if signing.given >= signing.needed {
                hint(&format!("fettle rollout start {number}"));
            } else {
                hint(&format!("somebody else: fettle plan sign {number} --key KEYFILE"));
            }
        }
    })
}

/// What is signed of a plan. Worked out here, from the whole plan: a server that shows one plan and names the digest of
/// another is found out.
fn statement(
    detail: &PlanDetail,
    seen: Option<Digest>,
    valid: &str,
) -> Result<PlanStatement, Problem> {
    let PlanDetail { number, plan, .. } = detail;
    let digest = plan.digest();
    if digest != detail.digest || plan.number != *number {
        let message = format!(
            "plan {number} is not what the server says it is: its digest is {}",
            digest.short()
        );
        let hint = "use the `fettle` of the server's version; if it is, do not trust that server";
        return Err(Problem::new(ProblemKind::Refused, "plan-differs", message, hint));
    }
    if let Some(seen) = seen.filter(|seen| *seen != digest) {
        let message = format!("plan {number} has digest {}, not {}", digest.short(), seen.short());
        let hint = format!("look at it again: `fettle plan show {number}`");
        return Err(Problem::new(ProblemKind::Conflict, "other-plan", message, hint));
    }
    let wrong = || {
        let message = format!("`{valid}` is no duration");
        Problem::new(ProblemKind::Usage, "signature-life", message, "write 12h or 7d; at most 30d")
    };
    let seconds = i64::try_from(seconds(valid).ok_or_else(wrong)?).map_err(|_| wrong())?;
    let signed_at = now();
    let life = jiff::SignedDuration::from_secs(seconds);
    Ok(PlanStatement {
        schema: 1,
        plan: *number,
        digest,
        orders: OrderTree::of(plan).root(),
        hosts: plan.hosts.len() as u64,
        waves: plan.earliest(signed_at),
        signed_at,
        expires_at: signed_at.checked_add(life).map_err(|_| wrong())?,
    })
}

/// Who signed a plan, and why one does not count.
pub(crate) fn signatures(signing: &PlanSigning) {
    let PlanSigning { version, label, given, needed, .. } = signing;
    line(&format!(
        "  {given} of {needed} operators' signatures (plan keys version {version}, {label})"
    ));
    for it in &signing.signatures {
        let until = ago(it.expires_at, now());
        let counts = match &it.not {
            Some(not) => format!("does not count: {not}"),
            None => format!("expires {until}"),
        };
        line(&format!("    {} at {}  {counts}", it.name, it.signed_at));
    }
}
