//! Starting and stopping.

use crate::app::{App, now};
use crate::listener::{Limits, OF_OPERATORS, serve};
use crate::trust::{Trust, agent_tls, claim_data_dir};
use crate::{ServerOptions, agents, backup, exposed, feeds, policies, router, setup, tasks};
use fettle_core::{Problem, ProblemKind};
use fettle_store::{Store, feeds as stored_feeds, hosts, settings, summaries};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A server that is to be started.
#[derive(Debug)]
pub struct Server;

/// A server that runs. Dropping it is like killing it: nothing is tidied up, and nothing needs to be.
pub struct Running {
    /// Where API and pages are.
    pub operator_addr: SocketAddr,
    /// Where agents are served.
    pub agents_addr: SocketAddr,
    /// The file with the operator's bearer token.
    pub token_file: PathBuf,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    whole: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
    _claim: File,
}

impl Server {
    /// Starts a server: when this returns, both ports answer.
    ///
    /// # Errors
    /// What is missing, with the next step: port taken, data directory not writable or in use, database locked,
    /// damaged or newer, keys that do not belong to the database.
    pub fn start(options: ServerOptions) -> Result<Running, Problem> {
        loopback_only(options.operator)?;
        let claim = claim_data_dir(&options.data_dir)?;
        let store = Store::open(&options.data_dir.join("fettle.db")).map_err(Problem::from)?;
        let trust = Trust::open(&options.data_dir)?;
        same_fleet(&store, &trust)?;

        // The ports before the long work: a port that is taken is told at once.
        let operator = bind(options.operator, "--operator-listen")?;
        let agents = bind(options.agents, "--agents-listen")?;
        let (operator_addr, agents_addr) = (local(&operator)?, local(&agents)?);

        // The last thing before it serves: a start that fails takes the database from nobody.
        store.take(now()).map_err(Problem::from)?;
        // Whoever starts it waits for a minute and a half, and a large fleet takes longer.
        let goes_on = || notify_systemd("EXTEND_TIMEOUT_USEC=60000000");
        let renewed = summaries::renew(&store, "server", now(), goes_on)?;
        if renewed > 0 {
            tracing::info!(hosts = renewed, "summaries of inventories made anew, once");
        }
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(App::new(options, store, trust, stopped.clone()));
        // Set once: this is called once.
        let _ = app.agents_addr.set(agents_addr);
        policies::load(&app)?;
        backup::settle(&app)?;
        setup::prepare(&app)?;
        load_feeds(&app)?;
        exposed::read(&app);

        let mut names = app.options.names.clone();
        names.extend(machine_names());
        if !agents_addr.ip().is_unspecified() {
            names.push(agents_addr.ip().to_string());
        }
        let grace = Duration::from_secs(app.options.renewal_grace_seconds);
        let tls = TlsAcceptor::from(agent_tls(&app.trust, &names, now(), grace)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(64)
            .thread_name("fettle")
            .enable_all()
            .build()
            .map_err(|e| no_system("threads", &e))?;
        let whole = {
            let _inside = runtime.enter();
            let operator = tokio::net::TcpListener::from_std(operator)
                .map_err(|e| no_system("sockets", &e))?;
            let agents =
                tokio::net::TcpListener::from_std(agents).map_err(|e| no_system("sockets", &e))?;
            let pages = router::router(app.clone());
            let calls = agents::router(app.clone());
            let app = app.clone();
            runtime.spawn(async move {
                let mut loops = tasks::start(&app, &stopped);
                tokio::join!(
                    serve(operator, None, pages, OF_OPERATORS, stopped.clone()),
                    serve(agents, Some(tls), calls, Limits::default(), stopped.clone()),
                );
                while loops.join_next().await.is_some() {}
                let _ = app
                    .blocking(|app| {
                        exposed::write(app);
                        Ok(())
                    })
                    .await;
                if let Err(problem) = app.blocking(App::keep_presence).await {
                    tracing::error!(
                        code = problem.code,
                        "who was heard is not written down: {problem}"
                    );
                }
            })
        };
        Ok(Running {
            operator_addr,
            agents_addr,
            token_file: app.options.data_dir.join("operator.token"),
            app,
            stop,
            whole: Some(whole),
            runtime: Some(runtime),
            _claim: claim,
        })
    }
}

impl Running {
    /// Waits until the loops have caught up with what the store holds.
    pub fn wait_ready(&self) {
        let mut ready = self.app.ready.subscribe();
        if let Some(runtime) = &self.runtime {
            let _ = runtime.block_on(async { ready.wait_for(|ready| *ready).await.is_ok() });
        }
    }

    /// Lets running requests end, writes down what is only in memory, and stops.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let (Some(runtime), Some(whole)) = (self.runtime.take(), self.whole.take()) {
            let _ = runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(15), whole).await });
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a server until SIGTERM or SIGINT.
///
/// # Errors
/// As [`Server::start`]; or another server has taken the database meanwhile.
pub fn run(options: ServerOptions) -> Result<(), Problem> {
    let announce = options.announce;
    let running = Server::start(options)?;
    let Some(runtime) = &running.runtime else { return Ok(()) };
    let signals = runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    });
    let (mut terminate, mut interrupt) = signals.map_err(|e| no_system("signals", &e))?;
    let mut ready = running.app.ready.subscribe();
    let mut superseded = running.app.superseded.subscribe();
    let told = runtime.block_on(async {
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => true,
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
        }
    });
    if told {
        notify_systemd("READY=1");
        if announce {
            let mut words = format!(
                "web page and API   http://{}\nagents             https://{}\noperator's token   {}\n",
                running.operator_addr,
                running.agents_addr,
                running.token_file.display()
            );
            if setup::secret(&running.app).is_some() {
                words.push_str(&format!(
                    "first account      http://{}/setup, with the secret in {}\n",
                    running.operator_addr,
                    running.app.options.data_dir.join(setup::FILE).display()
                ));
            }
            // Whoever read this may be gone: no reason to end.
            let _ = io::Write::write_all(&mut io::stdout(), words.as_bytes());
        }
        tracing::info!(operator = %running.operator_addr, agents = %running.agents_addr, "ready");
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = superseded.wait_for(|superseded| *superseded) => {}
            }
        });
    }
    notify_systemd("STOPPING=1");
    let ends = running.app.store.is_mine().map_err(Problem::from);
    running.stop();
    ends
}

/// Plain HTTP with a bearer token must not leave the machine.
fn loopback_only(operator: SocketAddr) -> Result<(), Problem> {
    if operator.ip().is_loopback() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Environment,
        "operator-not-loopback",
        format!("API and pages speak plain HTTP, and {operator} can be reached from elsewhere"),
        "listen on 127.0.0.1 or [::1], and put a TLS proxy or an SSH tunnel before it",
    ))
}

fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, Problem> {
    let bound = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Problem::new(
            ProblemKind::Unavailable,
            "port-taken",
            format!("{address} is taken by another program"),
            format!(
                "`ss -ltnp 'sport = :{}'` names it; stop it, or choose another with {option}",
                address.port()
            ),
        ),
        io::ErrorKind::PermissionDenied => Problem::new(
            ProblemKind::Environment,
            "port-forbidden",
            format!("this user may not listen on {address}"),
            format!("choose a port from 1024 on with {option}, or grant CAP_NET_BIND_SERVICE"),
        ),
        io::ErrorKind::AddrNotAvailable => Problem::new(
            ProblemKind::Environment,
            "no-such-address",
            format!("this machine has no address {}", address.ip()),
            format!("`ip address` lists those it has; choose one with {option}"),
        ),
        _ => Problem::new(
            ProblemKind::Environment,
            "no-listener",
            format!("{address} cannot be listened on: {error}"),
            format!("choose another address with {option}"),
        ),
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Problem> {
    listener.local_addr().map_err(|e| no_system("sockets", &e))
}

fn no_system(what: &str, error: &io::Error) -> Problem {
    Problem::new(
        ProblemKind::Environment,
        "system",
        format!("the system gives no {what}: {error}"),
        "look at the limits of this process: `ulimit -a`, or LimitNOFILE= and TasksMax= of its unit",
    )
}

/// Names by which agents may know this machine.
fn machine_names() -> Vec<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let fits =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    if fits { vec![name.to_owned()] } else { Vec::new() }
}

/// Hosts trust the keys beside the database. A database with other keys would be a server that nobody believes.
pub(crate) fn same_fleet(store: &Store, trust: &Trust) -> Result<(), Problem> {
    let mine = format!("{} {}", trust.pin(), trust.signer.public_key());
    let known = store.read::<_, Problem>(|view| Ok(settings::get(view, FLEET_KEYS)?))?;
    match known {
        Some(known) if known == mine => Ok(()),
        Some(_) if has_hosts(store)? => Err(Problem::new(
            ProblemKind::Environment,
            "other-keys",
            "the keys in DATA/keys are not those of this database: its hosts would not believe this server",
            "put the keys directory back that was beside this database",
        )),
        _ => store
            .write::<_, Problem>("server", now(), |tx| Ok(settings::set(tx, FLEET_KEYS, &mine)?)),
    }
}

const FLEET_KEYS: &str = "fleet-keys";

fn has_hosts(store: &Store) -> Result<bool, Problem> {
    store.read::<_, Problem>(|view| Ok(!hosts::all(view)?.is_empty()))
}

/// The catalogue must be there before the first host speaks: judged by nothing, every finding would seem gone.
fn load_feeds(app: &App) -> Result<(), Problem> {
    let none = app.store.read::<_, Problem>(|view| Ok(stored_feeds::digests(view)?.is_empty()))?;
    if none && app.options.bundled_feeds {
        return feeds::import(app, "server", feeds::bundled()?);
    }
    feeds::load(app)
}

/// `sd_notify(3)`, where the service manager asked for it.
fn notify_systemd(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(Path::new(&path)),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}
