use super::*;
use crate::executor::{Grant as _, Standalone};
use crate::transaction::an_assignment;
use fettle_core::Hold;
use fettle_core::assignment::{ApplyOrder, Assignment};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

const PATIENCE: Duration = Duration::from_secs(5);

fn settings(dir: &tempfile::TempDir, peers: Option<&str>) -> Settings {
    let settings = Settings {
        state_dir: dir.path().join("state"),
        config_dir: dir.path().join("config"),
        ..Settings::default()
    };
    std::fs::create_dir_all(&settings.config_dir).unwrap();
    if let Some(peers) = peers {
        std::fs::write(settings.peer_path(), peers).unwrap();
    }
    settings
}

/// An address of this machine that is not its loopback, by which nothing leaves it.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback()).then_some(own)
}

#[test]
fn a_host_alone_reaches_its_peer_when_that_takes_a_connection_and_not_when_nobody_listens() {
    let Some(own) = own_address() else {
        eprintln!("skipped: this machine has no network");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((own, 0)).unwrap();
    let peer = listener.local_addr().unwrap();
    let settings = settings(&dir, Some(&format!("# the gateway\n{peer} # by ssh\n")));
    assert_eq!(Reach::of(&settings).ask(PATIENCE), Some(Ok(())));
    drop(listener);
    let why = Reach::of(&settings).ask(PATIENCE).unwrap().unwrap_err();
    assert!(why.starts_with(&peer.to_string()), "{why}");
}

#[test]
fn one_peer_of_several_is_enough() {
    let Some(own) = own_address() else { return };
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((own, 0)).unwrap();
    let gone = TcpListener::bind((own, 0)).unwrap().local_addr().unwrap();
    let here = listener.local_addr().unwrap();
    let settings = settings(&dir, Some(&format!("{gone}\n{here}\n")));
    assert_eq!(Reach::of(&settings).ask(PATIENCE), Some(Ok(())));
}

#[test]
fn without_server_and_peer_there_is_nothing_to_reach_and_a_bad_line_is_never_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Reach::of(&settings(&dir, None)).ask(PATIENCE), None);
    assert_eq!(Reach::of(&settings(&dir, Some("# none\n"))).ask(PATIENCE), None);
    for (line, why) in [
        ("gateway:22", "line 1: `gateway:22` is no address with a port"),
        ("192.0.2.1", "line 1: `192.0.2.1` is no address with a port"),
        ("127.0.0.1:22", "line 1: `127.0.0.1:22` is this host itself"),
    ] {
        let said = Reach::of(&settings(&dir, Some(line))).ask(PATIENCE).unwrap().unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

fn assignment(deadman_seconds: Option<u32>) -> Assignment {
    an_assignment(ApplyOrder { deadman_seconds, ..ApplyOrder::default() })
}

#[test]
fn a_peer_that_does_not_answer_before_the_change_lets_none_begin() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir, Some("not an address\n"));
    let grant = Standalone::of(&settings);
    assert!(grant.redeem(&assignment(None), None).is_ok(), "no dead-man's switch was asked for");
    let hold = grant.redeem(&assignment(Some(60)), None).unwrap_err();
    assert!(matches!(&hold, Hold::NoData { what } if what.contains("not an address")), "{hold}");
}

/// A server with a certificate of its own authority, which answers every call with `answer` and then hangs up; and the
/// identity of a host of it.
fn server(answer: Option<&'static str>) -> crate::identity::Identity {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (certificate, key) = issue("fettle-server");
    let chain = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let Some(answer) = answer else { continue };
            let mut socket = socket;
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut asked = [0; 4096];
            if stream.read(&mut asked).is_ok() {
                let _ = stream.write_all(answer.as_bytes());
                tls.send_close_notify();
                let _ = tls.complete_io(&mut socket);
            }
        }
    });
    let (own, own_key) = issue("host");
    crate::identity::Identity {
        host: "h-1".into(),
        server: format!("https://{address}"),
        key: own_key.serialize_pem(),
        certificate: own.pem(),
        ca: authority.pem(),
        assignment_key: String::new(),
    }
}

#[test]
fn an_enrolled_host_reaches_its_server_by_any_answer_also_a_refusal_and_not_by_a_broken_line() {
    let dir = tempfile::tempdir().unwrap();
    // A peer that is named as well does not stand in for the server.
    let settings = settings(&dir, Some("192.0.2.1:22\n"));
    let ask = |identity: &crate::identity::Identity| {
        crate::identity::save(&settings, identity).unwrap();
        Reach::of(&settings).ask(PATIENCE).unwrap()
    };
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    assert_eq!(ask(&server(Some(good))), Ok(()));
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 7\r\nconnection: close\r\n\r\nnot you";
    assert_eq!(ask(&server(Some(refused))), Ok(()));
    let broken = ask(&server(None)).unwrap_err();
    assert!(broken.starts_with("no answer from https://127.0.0.1"), "{broken}");
    // Somebody else at the server's address is not the server.
    let mut other = server(Some(good));
    other.ca = server(None).ca;
    assert!(ask(&other).is_err());
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    other.server = format!("https://{gone}");
    assert!(ask(&other).is_err());
}
