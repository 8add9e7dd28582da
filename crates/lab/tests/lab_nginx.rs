//! Hosts behind a real nginx, which has no way to be told anything while it runs: a program of each host has the balancer
//! change the file of its servers and reload. Under a client that counts every request that fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
mod support;

use client::Client;
use fettle_lab::repo::{ACME_PORT, AcmeWeb, Serve, Vendor, acme_web};
use fettle_lab::{HostSpec, LabHost, Output};
use std::path::Path;
use std::time::Duration;
use support::{in_a_lab, say};

const PATIENCE: Duration = Duration::from_secs(300);
const SERVERS: &str = "/etc/nginx/fettle/acme.conf";
/// No second try, and no other server for a request that failed: the client sees everything.
const SITE: &str = "
upstream acme {
  include /etc/nginx/fettle/acme.conf;
}
server {
  listen 80 default_server;
  location / {
    proxy_pass http://acme;
    proxy_next_upstream off;
    proxy_connect_timeout 2s;
  }
}
";

fn agent(host: &LabHost, arguments: &[&str]) -> Output {
    host.command("fettle-agent").args(arguments).timeout(PATIENCE).run().unwrap()
}

/// The line of a server.
fn line(balancer: &LabHost, server: &str) -> String {
    let text = String::from_utf8(balancer.read_file(SERVERS).unwrap()).unwrap();
    let mine = text.lines().find(|line| line.contains(&format!("# {server} of ")));
    mine.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn no_request_fails_while_hosts_behind_a_real_nginx_are_patched_and_taken_back() {
    in_a_lab(|lab, bins: &Path| {
        let hosts = lab.up(&["web1", "web2", "balancer"], &HostSpec::default(), &say).unwrap();
        let [web1, web2, balancer] = hosts.as_slice() else { panic!("{hosts:?}") };
        let mut vendor = Vendor::new(lab, "acme", Serve::Files).unwrap();
        vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nginx");
        balancer.copy_in(deploy.join("fettle-nginx"), "/usr/local/sbin/fettle-nginx").unwrap();
        let (mut servers, mut keys) = (String::new(), String::new());
        for web in [web1, web2] {
            vendor.install_on(web).unwrap();
            web.sh("apt-get update -qq && apt-get install -y -qq acme-web").unwrap().ok().unwrap();
            web.copy_in(bins.join("fettle-agent"), "/usr/bin/fettle-agent").unwrap();
            web.copy_in(deploy.join("nginx-hook"), "/etc/fettle/hooks.d/nginx").unwrap();
            web.write_file(
                "/etc/fettle/nginx-hook.conf",
                format!("BALANCER=root@{}\n", balancer.ip()),
            )
            .unwrap();
            let line = format!("hook nginx acme/{}\n", web.name());
            web.write_file("/etc/fettle/balancers.d/acme", line).unwrap();
            let key = "chmod 755 /usr/bin/fettle-agent; \
                       ssh-keygen -q -t ed25519 -N '' -f /etc/fettle/nginx-hook.key; \
                       mkdir -p -m 700 /root/.ssh; cat /etc/fettle/nginx-hook.key.pub";
            let key = web.sh(key).unwrap().ok().unwrap();
            let name = web.name();
            servers += &format!("server {}:{ACME_PORT} weight=100; # {name} of 100\n", web.ip());
            keys += &format!(
                "restrict,command=\"/usr/local/sbin/fettle-nginx {SERVERS} {name}\" {}\n",
                key.trim()
            );
        }
        balancer.write_file(SERVERS, &servers).unwrap();
        balancer.write_file("/etc/nginx/sites-enabled/default", SITE).unwrap();
        balancer.write_file("/root/.ssh/authorized_keys", &keys).unwrap();
        let ready = "rm -f /etc/nginx/sites-enabled/default~; chmod 700 /root/.ssh; \
                     nginx -t && systemctl restart nginx && systemctl start ssh";
        balancer.sh(ready).unwrap().ok().unwrap();
        for web in [web1, web2] {
            let known =
                format!("ssh-keyscan -t ed25519 {} > /root/.ssh/known_hosts", balancer.ip());
            web.sh(&known).unwrap().ok().unwrap();
            let said = web.sh("/etc/fettle/hooks.d/nginx look acme/x").unwrap().ok().unwrap();
            assert_eq!(said.trim(), "status=up sessions=0 others=1");
        }
        // The key of a host is good for itself and for these words.
        for odd in ["look;id", "share 0", "share 500", "rm -rf /"] {
            let asked = format!("ssh -i /etc/fettle/nginx-hook.key root@{} '{odd}'", balancer.ip());
            let said = web1.sh(&asked).unwrap();
            assert!(!said.success() && said.stderr.contains("fettle-nginx: "), "{odd}: {said:?}");
        }

        let client = Client::start(balancer.ip());
        let offer = |vendor: &mut Vendor, version: &str, behaviour| {
            vendor.publish(&[acme_web(version, behaviour)]).unwrap();
            for web in [web1, web2] {
                web.sh("apt-get update -qq").unwrap().ok().unwrap();
            }
        };
        offer(&mut vendor, "1.1", AcmeWeb::Good);
        for web in [web1, web2] {
            let said = agent(web, &["patch", "acme-web"]).ok().unwrap();
            assert!(said.contains(&format!("drained: acme/{} by ", web.name())), "{said}");
            assert!(!line(balancer, web.name()).contains("down"), "it is back");
        }
        // A bad one hurts nobody: it is undone before the host gets requests again.
        offer(&mut vendor, "1.2", AcmeWeb::ServiceDies);
        let bad = agent(web1, &["patch", "acme-web"]);
        assert!(!bad.success() && bad.stderr.contains("undone and verified"), "{}", bad.stderr);
        agent(web2, &["undo"]).ok().unwrap();
        // Shares too, and while somebody asks.
        web1.sh("/etc/fettle/hooks.d/nginx share acme/web1 30").unwrap().ok().unwrap();
        assert!(line(balancer, "web1").contains("weight=30;"));
        web1.sh("/etc/fettle/hooks.d/nginx share acme/web1 100").unwrap().ok().unwrap();
        let (good, failed) = client.end();
        println!("{good} requests answered, {} failed", failed.len());
        assert_eq!(failed, Vec::<String>::new());
        assert!(good > 1000, "{good}");

        // The last server of its backend is not taken out; nothing is touched.
        web1.sh("/etc/fettle/hooks.d/nginx out acme/web1").unwrap().ok().unwrap();
        offer(&mut vendor, "1.3", AcmeWeb::Good);
        let last = agent(web2, &["patch", "acme-web"]);
        assert!(!last.success() && last.stderr.contains("no other server"), "{}", last.stderr);
        // A file that nginx does not take stays as it was, and a reload that is not done is no change.
        let before = line(balancer, "web1");
        balancer.sh("echo 'nonsense;' > /etc/nginx/conf.d/bad.conf").unwrap().ok().unwrap();
        let said = web1.sh("/etc/fettle/hooks.d/nginx in acme/web1").unwrap();
        assert!(!said.success() && said.stderr.contains("nginx does not take it"), "{said:?}");
        assert_eq!(line(balancer, "web1"), before);
    });
}
