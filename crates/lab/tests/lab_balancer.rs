//! Hosts behind a real HAProxy, under a client that counts every request that fails: a change takes the host out of
//! the balancer by its Runtime API before anything is touched, and puts it back when it is proved well.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
mod support;

use client::Client;
use fettle_core::host::Labels;
use fettle_core::rollout::Phase;
use fettle_lab::repo::{ACME_PORT, AcmeWeb, Serve, Vendor, acme_web};
use fettle_lab::{Fleet, HostSpec, Lab, LabHost, Output};
use fettle_wire::api::{HostDetail, PlanDetail, RolloutDetail};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{in_a_lab, say};

const PATIENCE: Duration = Duration::from_secs(300);
/// No second try, and no other server for a request that failed: the client sees everything.
const CONFIGURATION: &str = "
global
  stats socket ipv4@0.0.0.0:9999 level admin
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
  retries 0
frontend front
  bind :80
  default_backend acme
backend acme
  option httpchk GET /
  default-server check inter 300ms fall 2 rise 1 weight 100
";

fn agent(host: &LabHost, arguments: &[&str]) -> Output {
    host.command("fettle-agent").args(arguments).timeout(PATIENCE).run().unwrap()
}

/// What the balancer says of a server: `UP`, `DRAIN`, `MAINT`.
fn status(balancer: &LabHost, server: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/9999; echo 'show stat' >&3; awk -F, '$2 == \"{server}\" {{print $18}}' <&3"
    );
    balancer.exec(&["bash", "-c", &script]).unwrap().ok().unwrap().trim().to_owned()
}

/// Waits until the balancer says so.
fn wait_status(balancer: &LabHost, server: &str, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut seen = status(balancer, server);
    while seen != wanted && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        seen = status(balancer, server);
    }
    assert_eq!(seen, wanted, "{server}");
}

fn tell(balancer: &LabHost, command: &str) {
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/9999; echo '{command}' >&3; cat <&3");
    assert_eq!(balancer.exec(&["bash", "-c", &script]).unwrap().ok().unwrap().trim(), "");
}

#[test]
fn no_request_fails_while_hosts_behind_a_real_balancer_are_patched_and_taken_back() {
    in_a_lab(|lab, bins: &Path| {
        let hosts = lab.up(&["web1", "web2", "balancer"], &HostSpec::default(), &say).unwrap();
        let [web1, web2, balancer] = hosts.as_slice() else { panic!("{hosts:?}") };
        let mut vendor = Vendor::new(lab, "acme", Serve::Files).unwrap();
        vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
        let mut configuration = CONFIGURATION.to_owned();
        for web in [web1, web2] {
            vendor.install_on(web).unwrap();
            web.sh("apt-get update -qq && apt-get install -y -qq acme-web").unwrap().ok().unwrap();
            web.copy_in(bins.join("fettle-agent"), "/usr/bin/fettle-agent").unwrap();
            let line = format!("haproxy {}:9999 acme/{}\n", balancer.ip(), web.name());
            web.sh("chmod 755 /usr/bin/fettle-agent; mkdir -p /etc/fettle/balancers.d").unwrap();
            web.write_file("/etc/fettle/balancers.d/acme", line).unwrap();
            configuration += &format!("  server {} {}:{ACME_PORT}\n", web.name(), web.ip());
        }
        let install =
            "systemctl disable --now nginx; apt-get update -qq && apt-get install -y -qq haproxy";
        balancer.command("sh").args(["-c", install]).timeout(PATIENCE).run().unwrap().ok().unwrap();
        balancer.write_file("/etc/haproxy/haproxy.cfg", configuration).unwrap();
        balancer.sh("systemctl restart haproxy").unwrap().ok().unwrap();
        for web in [web1, web2] {
            wait_status(balancer, web.name(), "UP");
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
            assert!(said.contains(&format!("drained: acme/{} at ", web.name())), "{said}");
            wait_status(balancer, web.name(), "UP");
        }
        // A bad one hurts nobody: it is undone before the host gets requests again.
        offer(&mut vendor, "1.2", AcmeWeb::ServiceDies);
        let bad = agent(web1, &["patch", "acme-web"]);
        assert!(!bad.success() && bad.stderr.contains("undone and verified"), "{}", bad.stderr);
        wait_status(balancer, "web1", "UP");
        // Nor does an undo that somebody asks for.
        agent(web2, &["undo"]).ok().unwrap();
        wait_status(balancer, "web2", "UP");
        let (good, failed) = client.end();
        println!("{good} requests answered, {} failed", failed.len());
        assert_eq!(failed, Vec::<String>::new());
        assert!(good > 1000, "{good}");

        // The last server of its backend is not taken out; nothing is touched.
        tell(balancer, "set server acme/web1 state maint");
        offer(&mut vendor, "1.3", AcmeWeb::Good);
        let last = agent(web2, &["patch", "acme-web"]);
        assert!(!last.success() && last.stderr.contains("no other server"), "{}", last.stderr);
        wait_status(balancer, "web2", "UP");
        // One that its administrator took out stays out, and may be patched.
        let said = agent(web1, &["patch", "acme-web"]).ok().unwrap();
        assert!(said.contains("was out already (MAINT)"), "{said}");
        wait_status(balancer, "web1", "MAINT");
    });
}

/// A fleet behind a balancer: a server orders what happens, a client asks all the time.
struct Stand {
    fleet: Fleet,
    webs: Vec<LabHost>,
    balancer: LabHost,
    vendor: Vendor,
}

/// Hosts with acme-web 1.0 behind one balancer, enrolled, each in a pool; and a policy named `web`.
fn stand(lab: &Lab, bins: &Path, webs: &[(&str, &str)], strategy: &str) -> Stand {
    let mut names: Vec<&str> = webs.iter().map(|(name, _)| *name).collect();
    names.push("balancer");
    let mut hosts = lab.up(&names, &HostSpec::default(), &say).unwrap();
    let balancer = hosts.pop().unwrap();
    let mut vendor = Vendor::new(lab, "acme", Serve::Files).unwrap();
    vendor.publish(&[acme_web("1.0", AcmeWeb::Good)]).unwrap();
    let mut fleet = Fleet::start(lab, bins).unwrap();
    let mut configuration = CONFIGURATION.to_owned();
    for (web, (_, pool)) in hosts.iter().zip(webs) {
        vendor.install_on(web).unwrap();
        web.sh("apt-get update -qq && apt-get install -y -qq acme-web").unwrap().ok().unwrap();
        // So that a transaction is small and quick.
        let hold =
            "apt-mark hold $(dpkg-query -W -f '${Package}\\n' | grep -v acme-web) >/dev/null";
        web.sh(hold).unwrap().ok().unwrap();
        web.sh("mkdir -p /etc/fettle/balancers.d").unwrap().ok().unwrap();
        let line = format!("haproxy {}:9999 acme/{}\n", balancer.ip(), web.name());
        web.write_file("/etc/fettle/balancers.d/acme", line).unwrap();
        configuration += &format!("  server {} {}:{ACME_PORT}\n", web.name(), web.ip());
        let labels = [("role", "web"), ("pool", *pool)];
        let labels: Labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        fleet.enroll(web, &labels).unwrap();
    }
    let install =
        "systemctl disable --now nginx; apt-get update -qq && apt-get install -y -qq haproxy";
    balancer.command("sh").args(["-c", install]).timeout(PATIENCE).run().unwrap().ok().unwrap();
    balancer.write_file("/etc/haproxy/haproxy.cfg", configuration).unwrap();
    balancer.sh("systemctl restart haproxy").unwrap().ok().unwrap();
    for web in &hosts {
        wait_status(&balancer, web.name(), "UP");
    }
    fleet.wait_inventories(Duration::from_secs(120)).unwrap();
    let policy = format!(
        "[policy]\nname = \"web\"\nselect = \"role=web\"\ntake = \"all\"\n{strategy}\n\
         [[probe]]\nhttp = \"http://127.0.0.1:{ACME_PORT}/\"\n"
    );
    let file = fleet.data().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    fleet.run(&["policy", "apply", &file.to_string_lossy()]).unwrap().ok().unwrap();
    Stand { fleet, webs: hosts, balancer, vendor }
}

impl Stand {
    /// Publishes a version, waits until every host is offered it, and starts a rollout of it.
    fn roll_out(&mut self, version: &str, behaviour: AcmeWeb) -> String {
        self.vendor.publish(&[acme_web(version, behaviour)]).unwrap();
        for web in &self.webs {
            web.sh("apt-get update -qq").unwrap().ok().unwrap();
        }
        let offered = || {
            let mut all = true;
            for web in &self.webs {
                let detail: HostDetail = self.fleet.json(&["host", "show", web.name()])?;
                let upgrades = detail.inventory.map(|i| i.upgrades).unwrap_or_default();
                all &= upgrades.iter().any(|u| u.name == "acme-web" && u.to == version);
            }
            Ok(all.then_some(()))
        };
        self.fleet.wait("the update to be offered", Duration::from_secs(90), offered).unwrap();
        let plan: PlanDetail = self.fleet.json(&["plan", "make", "web"]).unwrap();
        assert_eq!(plan.plan.hosts.len(), self.webs.len(), "{:?}", plan.plan.held);
        let number = plan.number.to_string();
        let rollout: RolloutDetail = self.fleet.json(&["rollout", "start", &number]).unwrap();
        rollout.row.id.to_string()
    }

    fn versions(&self) -> Vec<String> {
        let ask = |web: &LabHost| {
            let said = web.sh("dpkg-query -W -f '${Version}' acme-web").unwrap().ok().unwrap();
            said.trim().to_owned()
        };
        self.webs.iter().map(ask).collect()
    }

    /// What the balancer says of each host.
    fn statuses(&self) -> Vec<String> {
        self.webs.iter().map(|web| status(&self.balancer, web.name())).collect()
    }

    /// Waits until a rollout is as `is` says.
    fn until(&self, what: &str, id: &str, is: impl Fn(&RolloutDetail) -> bool) -> RolloutDetail {
        let look = || {
            let rollout: RolloutDetail = self.fleet.json(&["rollout", "show", id])?;
            Ok(is(&rollout).then_some(rollout))
        };
        self.fleet.wait(what, PATIENCE, look).unwrap()
    }

    fn abort(&self, id: &str) {
        self.fleet.run(&["rollout", "abort", id, "--reason", "test"]).unwrap().ok().unwrap();
    }
}

fn nobody_failed((good, failed): (u32, Vec<String>)) {
    println!("{good} requests answered, {} failed", failed.len());
    assert_eq!(failed, Vec::<String>::new());
    assert!(good > 1000, "{good}");
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn a_rolling_rollout_behind_a_balancer_costs_no_request_be_the_patch_good_or_bad() {
    in_a_lab(|lab, bins: &Path| {
        let strategy = "[strategy]\nkind = \"rolling\"\nmax-unavailable = 1\n\
                        [gate]\nbake = \"3s\"\nsilent-after = \"60s\"\n";
        let webs = ["web1", "web2", "web3"].map(|name| (name, "all"));
        let mut stand = stand(lab, bins, &webs, strategy);
        let client = Client::start(stand.balancer.ip());
        let id = stand.roll_out("1.1", AcmeWeb::Good);
        let rollout = stand.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert_eq!(rollout.row.phase, Phase::Done, "{:#?}", rollout.hosts);
        assert_eq!(stand.versions(), ["1.1"; 3]);
        let id = stand.roll_out("1.2", AcmeWeb::ServiceDies);
        let rollout = stand.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert!(matches!(rollout.row.phase, Phase::Halted { .. }), "{:#?}", rollout.row);
        assert_eq!(stand.versions(), ["1.1"; 3], "one was tried, and undone");
        assert_eq!(stand.statuses(), ["UP"; 3]);
        nobody_failed(client.end());
    });
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn two_pools_change_places_behind_a_balancer_and_change_back_when_it_goes_badly_without_a_failed_request()
 {
    in_a_lab(|lab, bins: &Path| {
        let strategy = "[strategy]\nkind = \"blue-green\"\nblue = \"pool=blue\"\ngreen = \"pool=green\"\n\
                        traffic = [50, 100]\n\
                        [gate]\nbake = \"5s\"\nsilent-after = \"20s\"\nundo-wave = true\n";
        let webs = [("blue1", "blue"), ("blue2", "blue"), ("green1", "green"), ("green2", "green")];
        let mut stand = stand(lab, bins, &webs, strategy);
        let client = Client::start(stand.balancer.ip());

        // Green is made idle, patched, and gets the requests; then blue is patched.
        let id = stand.roll_out("1.1", AcmeWeb::Good);
        let rollout = stand.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert_eq!(rollout.row.phase, Phase::Done, "{:#?}", rollout.waiting);
        assert_eq!(stand.versions(), ["1.1"; 4]);
        assert_eq!(stand.statuses(), ["DRAIN", "DRAIN", "UP", "UP"]);

        // Now blue is idle: a bad patch is undone there, and nobody notices.
        let id = stand.roll_out("1.2", AcmeWeb::ServiceDies);
        let rollout = stand.fleet.wait_rollout(&id, PATIENCE).unwrap();
        assert!(matches!(rollout.row.phase, Phase::Halted { .. }), "{:#?}", rollout.row);
        assert_eq!(stand.versions(), ["1.1"; 4]);
        assert_eq!(stand.statuses(), ["DRAIN", "DRAIN", "UP", "UP"]);
        stand.abort(&id);

        // Blue is patched well, has half of the requests, and one of it falls silent: green has them all again.
        let id = stand.roll_out("1.3", AcmeWeb::Good);
        stand.until("blue to have requests", &id, |r| {
            r.traffic.iter().all(|t| t.share == Some(50) && t.state == "set")
        });
        stand.webs[0].sh("systemctl stop fettle-agent").unwrap().ok().unwrap();
        stand.until("the traffic to turn back", &id, |r| {
            let back = |t: &fettle_wire::api::RolloutTraffic| {
                t.pool == "blue" || (t.share == Some(100) && t.state == "set")
            };
            matches!(r.row.phase, Phase::Halted { .. }) && r.traffic.iter().all(back)
        });
        stand.until("who can be told to be undone", &id, |r| {
            r.hosts.iter().any(|h| h.name == "blue2" && h.run.state.word() == "undone")
        });
        assert_eq!(stand.versions()[1..], ["1.1"; 3]);
        assert_eq!(stand.statuses()[1..], ["DRAIN", "UP", "UP"]);
        nobody_failed(client.end());
    });
}
