//! Who is believed.

use crate::fleet::{
    Agent, Lab, TRACKER, agent_call, inventory, key_and_csr, try_agent_call, until,
};
use crate::http::{Identity, ask, der, tcp, tls};
use fettle_core::ledger::LedgerEntry;
use fettle_core::{AssignmentId, Problem, ProblemKind};
use fettle_wire::agent::{CheckInReply, MAX_BODY, Redeem, RedeemReply, Renew, Renewed};
use fettle_wire::api::{HostDetail, HostRow, Overview, Page};
use std::io::Write as _;

#[test]
fn a_host_enrols_reports_and_is_judged() {
    let lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    let detail: HostDetail = lab.get("/hosts/web-1");
    assert_eq!(
        (detail.row.state.as_str(), detail.row.ring.as_deref()),
        ("exposed", Some("canary"))
    );
    assert_eq!((detail.row.open, detail.row.no_fix, detail.row.upgrades), (1, 1, 2));
    assert!(detail.row.last_seen.is_some());
    let finding = &detail.findings[0].finding;
    assert_eq!(
        (finding.id.as_str(), finding.class.as_str(), finding.offered),
        (crate::fleet::CVE, "all", true)
    );
    assert!(finding.deadline.is_some());
    // The same again: nothing wanted, nothing given.
    let again = agent.checkin(&lab);
    assert!(!again.want_inventory && again.assignment.is_none() && !again.renew);
    assert_eq!(again.next_checkin_seconds, 1);
}

#[test]
fn a_host_of_an_unknown_release_is_not_judged_and_never_looks_healthy() {
    let lab = Lab::furnished();
    let mut agent = lab.host("web-1", "canary");
    agent.inventory.os.id = "plan9".into();
    agent.inventory.os.codename = "fourth".into();
    agent.checkin(&lab);
    let detail: HostDetail = lab.get("/hosts/web-1");
    assert_eq!(detail.row.state, "not-judged");
    let gaps = detail.inventory.unwrap().gaps;
    assert!(gaps.iter().any(|g| g.contains("no vulnerability data for")), "{gaps:?}");
    let overview: Overview = lab.get("/overview");
    assert_eq!(overview.hosts_by_state.get("not-judged"), Some(&1));
}

#[test]
fn a_statement_that_the_vendor_took_back_is_on_record() {
    let lab = Lab::furnished();
    lab.host("web-1", "canary");
    let less = crate::fleet::TRACKER.replace("CVE-2024-0001", "CVE-2024-0002");
    lab.post_bytes("/feeds/debian-tracker?force=true", less.as_bytes());
    let ledger: Page<LedgerEntry> = lab.get("/ledger?limit=1000");
    let gone = ledger.items.iter().find(|e| e.kind == "finding.withdrawn").unwrap();
    assert!(gone.body.to_string().contains("CVE-2024-0001"), "{}", gone.body);
}

#[test]
fn the_names_a_host_asks_for_are_not_the_names_it_gets() {
    let lab = Lab::start();
    let agent = lab.host("web-1", "canary");
    let der = der(&agent.identity.certificate);
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names: Vec<_> =
        certificate.subject().iter_common_name().map(|n| n.as_str().unwrap()).collect();
    assert_eq!(names, [agent.id.as_str()]);
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
}

#[test]
fn a_token_is_good_for_one_host_once() {
    let lab = Lab::start();
    let secret = lab.secret("canary");
    Agent::enrol(&lab, "web-1", &secret).unwrap();
    let (status, problem) = Agent::enrol(&lab, "web-2", &secret).err().unwrap();
    assert_eq!(
        (status, problem.kind, problem.code.as_str()),
        (403, ProblemKind::Forbidden, "token-refused")
    );
    assert!(problem.message.contains("was used at"), "{problem}");
    let (status, problem) = Agent::enrol(&lab, "web-2", &"0".repeat(32)).err().unwrap();
    assert_eq!(status, 403);
    assert!(problem.message.contains("not made here"), "{problem}");
    let hosts: Page<HostRow> = lab.get("/hosts");
    assert_eq!(hosts.total, 1);
}

#[test]
fn a_refused_enrolment_leaves_the_token_good() {
    let lab = Lab::start();
    Agent::enrol(&lab, "web-1", &lab.secret("canary")).unwrap();
    let secret = lab.secret("canary");
    let (status, problem) = Agent::enrol(&lab, "web-1", &secret).err().unwrap();
    assert_eq!((status, problem.code.as_str()), (409, "host-enrolled"));
    for name in ["", "a b", "<script>", "../../etc", "-rf", "\u{202e}evil", &"x".repeat(300)] {
        let (status, problem) = Agent::enrol(&lab, name, &secret).err().unwrap();
        assert_eq!((status, problem.code.as_str()), (422, "bad-host-name"), "{name}");
    }
    Agent::enrol(&lab, "web-2", &secret).unwrap();
}

#[test]
fn without_a_certificate_only_enrolment_is_heard() {
    let lab = Lab::start();
    let agent = lab.host("web-1", "canary");
    for call in ["checkin", "redeem", "renew"] {
        let out = agent_call::<serde_json::Value>(&lab, None, call, &agent.says(false));
        let (status, problem) = out.unwrap_err();
        assert_eq!((status, problem.code.as_str()), (403, "no-certificate"), "{call}");
    }
}

#[test]
fn a_certificate_of_another_authority_does_not_get_through_the_handshake() {
    let (lab, other) = (Lab::start(), Lab::start());
    let stranger = other.host("web-1", "canary");
    let out = tls(lab.agents, &lab.ca, Some(&stranger.identity))
        .and_then(|stream| ask(stream, "POST", "/agent/v1/checkin", &[], b"{}"));
    assert!(out.is_err(), "{out:?}");
    // One that a host signed for itself, with an enrolled host's name.
    let victim = lab.host("web-1", "canary");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, victim.id.as_str());
    let forged = params.self_signed(&key).unwrap();
    let identity = Identity { certificate: forged.pem(), key: key.serialize_der() };
    let out = tls(lab.agents, &lab.ca, Some(&identity))
        .and_then(|stream| ask(stream, "POST", "/agent/v1/checkin", &[], b"{}"));
    assert!(out.is_err(), "{out:?}");
}

#[test]
fn a_host_cannot_sign_certificates_for_others() {
    let lab = Lab::start();
    let (evil, victim) = (lab.host("evil", "canary"), lab.host("web-1", "canary"));
    let key = rcgen::KeyPair::try_from(evil.identity.key.as_slice()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&evil.identity.certificate, key).unwrap();
    let leaf = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, victim.id.as_str());
    let signed = params.signed_by(&leaf, &issuer).unwrap();
    let identity = Identity { certificate: signed.pem(), key: leaf.serialize_der() };
    let out = tls(lab.agents, &lab.ca, Some(&identity))
        .and_then(|stream| ask(stream, "POST", "/agent/v1/checkin", &[], b"{}"));
    assert!(out.is_err(), "{out:?}");
}

#[test]
fn a_retired_host_is_turned_away() {
    let lab = Lab::start();
    let agent = lab.host("web-1", "canary");
    assert_eq!(lab.call("DELETE", "/hosts/web-1", b"").status, 204);
    let (status, problem) =
        agent.call::<CheckInReply>(&lab, "checkin", &agent.says(true)).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "not-enrolled"));
    // Its name is free again.
    lab.host("web-1", "canary");
}

#[test]
fn a_machine_copied_with_its_identity_stops_both_until_a_person_says_which_is_the_host() {
    let lab = Lab::start();
    let mut agent = lab.host("web-1", "canary");
    let says = |lab: &Lab, agent: &mut Agent, session: &str| {
        agent.session = session.into();
        agent.call::<CheckInReply>(lab, "checkin", &agent.says(false))
    };
    // An agent that starts anew, even one whose last word comes late, is nothing odd.
    for session in ["original", "again", "original", "copy"] {
        says(&lab, &mut agent, session).unwrap();
    }
    let (status, problem) = says(&lab, &mut agent, "again").unwrap_err();
    assert_eq!((status, problem.code.as_str()), (409, "two-machines"));
    assert!(problem.hint.contains("fettle host release web-1"), "{}", problem.hint);
    let host: HostDetail = lab.get("/hosts/web-1");
    let why = host.quarantined.unwrap();
    assert!(why.starts_with("two machines speak as web-1"), "{why}");
    // Neither is served: not the one that spoke last either, and no grant is given.
    assert_eq!(says(&lab, &mut agent, "copy").unwrap_err().0, 409);
    let asked =
        Redeem { assignment: AssignmentId::new("none"), generation: 1, needs_seconds: None };
    assert_eq!(agent.call::<RedeemReply>(&lab, "redeem", &asked).unwrap_err().0, 409);
    let released =
        lab.call("POST", "/hosts/web-1/release", br#"{"reason":"the copy was removed"}"#);
    assert_eq!(released.status, 200);
    says(&lab, &mut agent, "again").unwrap();
}

#[test]
fn a_certificate_is_renewed_with_a_new_key_and_keeps_its_name() {
    let lab = Lab::start();
    let mut agent = lab.host("web-1", "canary");
    let (key, csr) = key_and_csr();
    let renewed: Renewed = agent.call(&lab, "renew", &Renew { csr }).unwrap();
    agent.identity = Identity { certificate: renewed.certificate, key };
    agent.checkin(&lab);
    let (status, problem) =
        agent.call::<Renewed>(&lab, "renew", &Renew { csr: "junk".into() }).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (422, "bad-csr"));
}

#[test]
fn a_host_that_was_off_until_its_certificate_ended_gets_a_new_one_by_it_and_nothing_else() {
    let lab = Lab::with(|options| options.certificate_seconds = 5);
    let mut agent = lab.host("web-1", "canary");
    let retired = lab.host("web-2", "canary");
    let refused = |agent: &Agent| agent.call::<CheckInReply>(&lab, "checkin", &agent.says(false));
    until("the end of the certificates", || {
        [&agent, &retired].iter().all(|agent| refused(agent).is_err()).then_some(())
    });
    for what in ["checkin", "redeem", "tested"] {
        let (status, problem) = agent.call::<CheckInReply>(&lab, what, &"{}").unwrap_err();
        assert_eq!((status, problem.code.as_str()), (403, "certificate-ended"), "{what}");
    }
    let id = agent.id.clone();
    let (key, csr) = key_and_csr();
    let renewed: Renewed = agent.call(&lab, "renew", &Renew { csr }).unwrap();
    agent.identity = Identity { certificate: renewed.certificate, key };
    agent.checkin(&lab);
    assert_eq!(lab.get::<HostDetail>("/hosts/web-1").row.id, id, "it is the host that it was");
    // Who was retired meanwhile gets none.
    lab.call("DELETE", "/hosts/web-2", b"");
    let (_, csr) = key_and_csr();
    let (status, problem) = retired.call::<Renewed>(&lab, "renew", &Renew { csr }).unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "not-enrolled"));
}

#[test]
fn a_certificate_that_ended_too_long_ago_opens_nothing() {
    let lab = Lab::with(|options| {
        (options.certificate_seconds, options.renewal_grace_seconds) = (2, 0);
    });
    let agent = lab.host("web-1", "canary");
    let (_, csr) = key_and_csr();
    let asked = Renew { csr };
    let call = || try_agent_call::<Renewed>(&lab, Some(&agent.identity), "renew", &asked);
    // Who writes before the refusal is read learns only that nobody listens any more.
    until("the refusal of an ended certificate", || {
        call().err().filter(|closed| closed.to_string().contains("CertificateExpired"))
    });
    assert!(call().is_err());
}

#[test]
fn an_oversize_body_is_refused_with_413_and_not_read_to_its_end() {
    let lab = Lab::start();
    let agent = lab.host("web-1", "canary");
    let body = vec![b' '; MAX_BODY + 1];
    let stream = tls(lab.agents, &lab.ca, Some(&agent.identity)).unwrap();
    let answer = ask(stream, "POST", "/agent/v1/checkin", &[], &body).unwrap();
    assert_eq!(answer.status, 413);
    // One that only says so.
    let mut stream = tls(lab.agents, &lab.ca, Some(&agent.identity)).unwrap();
    let head = "POST /agent/v1/checkin HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(crate::http::read_answer(stream).unwrap().status, 413);
}

#[test]
fn a_compressed_check_in_is_read_and_one_that_bursts_or_is_damaged_is_refused() {
    let lab = Lab::start();
    let agent = lab.host("web-1", "canary");
    let packed = |body: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(body).unwrap();
        gz.finish().unwrap()
    };
    let send = |body: &[u8]| {
        let stream = tls(lab.agents, &lab.ca, Some(&agent.identity)).unwrap();
        let gzip = [("content-encoding", "gzip")];
        ask(stream, "POST", "/agent/v1/checkin", &gzip, body).unwrap()
    };
    let whole = packed(&serde_json::to_vec(&agent.says(true)).unwrap());
    let answer = send(&whole);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let reply: CheckInReply = answer.json();
    assert!(reply.takes_packed && !reply.want_inventory);
    let bomb = packed(&vec![b' '; MAX_BODY + 1]);
    assert!(bomb.len() < 100_000);
    assert_eq!(send(&bomb).status, 413);
    for damaged in [&whole[..whole.len() / 2], b"{}"] {
        let answer = send(damaged);
        assert_eq!((answer.status, answer.json::<Problem>().code.as_str()), (422, "bad-message"));
    }
}

#[test]
fn odd_inventories_are_refused_and_the_last_good_one_stays() {
    let lab = Lab::furnished();
    let agent = lab.host("web-1", "canary");
    let mut odd = Vec::new();
    for bad in ["; rm -rf /", "-oDpkg::x", "a\u{0}b", "\u{202e}x", &"x".repeat(10_000)] {
        let mut inventory = inventory(crate::fleet::OLD);
        // A leading dash is odd for dpkg, not for us: agents pass names after `--`.
        if !bad.starts_with('-') {
            inventory.packages[0].name = bad.to_owned();
            odd.push(inventory);
        }
    }
    let mut many = inventory(crate::fleet::OLD);
    many.gaps = vec![String::new(); 100_001];
    odd.push(many);
    for inventory in odd {
        let mut said = agent.says(true);
        said.inventory = Some(inventory);
        let (status, problem) = agent.call::<CheckInReply>(&lab, "checkin", &said).unwrap_err();
        assert_eq!((status, problem.code.as_str()), (422, "odd-inventory"));
    }
    let (status, problem) = agent
        .call::<CheckInReply>(&lab, "checkin", &serde_json::json!({ "reports": 3 }))
        .unwrap_err();
    assert_eq!((status, problem.code.as_str()), (422, "bad-message"));
    let detail: HostDetail = lab.get("/hosts/web-1");
    assert_eq!(detail.inventory.unwrap().digest(), agent.inventory.digest());
}

#[test]
fn a_plain_or_silent_connection_to_the_agents_port_disturbs_nobody() {
    let lab = Lab::start();
    let idle: Vec<_> = (0..50).map(|_| tcp(lab.agents).unwrap()).collect();
    let mut plain = tcp(lab.agents).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    lab.host("web-1", "canary");
    drop(idle);
}

#[test]
fn without_any_feed_no_finding_is_invented_and_with_one_they_come() {
    let lab = Lab::start();
    lab.host("web-1", "canary");
    let detail: HostDetail = lab.get("/hosts/web-1");
    assert!(detail.findings.is_empty());
    let gaps = detail.inventory.unwrap().gaps;
    assert!(gaps.iter().any(|g| g.contains("no vulnerability data")), "{gaps:?}");
    lab.post_bytes("/feeds/debian-tracker", TRACKER.as_bytes());
    let detail: HostDetail = lab.get("/hosts/web-1");
    assert_eq!(detail.findings.len(), 2);
}
