//! A whole fleet on one machine: the server as a process of this machine, an agent in each host, and the
//! operator's command line between them. What the demo shows and the lab tests try is this, the real
//! programs over real networks; nothing is called in-process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fettle_core::host::Labels;
use fettle_wire::api::{HostRow, Page, RolloutDetail, TokenMade};
use serde::de::DeserializeOwned;

use crate::process::ProcessId;
use crate::{Lab, LabError, LabHost};

/// The port agents reach it at, on the lab's gateway.
const AGENTS_PORT: u16 = 18441;
/// How often something that has a deadline is asked for; each ask starts a program.
const POLL: Duration = Duration::from_millis(300);

/// The server, the hosts with agents, and the operator's hands.
#[derive(Debug)]
pub struct Fleet {
    lab: Lab,
    programs: PathBuf,
    server: Option<Child>,
    /// The server and its files outlive this value.
    kept: bool,
    /// The hosts whose agents were enrolled, in that order.
    pub hosts: Vec<LabHost>,
}

/// What the command line said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code; 255 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output, or an error with what was said when the exit code is not 0.
    ///
    /// # Errors
    /// [`LabError::Fleet`].
    pub fn ok(self) -> Result<String, LabError> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        Err(LabError::Fleet {
            what: format!("exit code {}: {}{}", self.code, self.stdout, self.stderr),
        })
    }
}

impl Fleet {
    /// Starts a server with an empty data directory. `programs` holds `fettle` and `fettle-agent`.
    ///
    /// # Errors
    /// When a program is missing or the server does not become ready.
    pub fn start(lab: &Lab, programs: &Path) -> Result<Self, LabError> {
        for name in ["fettle", "fettle-agent"] {
            if !programs.join(name).is_file() {
                return Err(LabError::Fleet {
                    what: format!(
                        "{} has no `{name}`: build it with `cargo build`",
                        programs.display()
                    ),
                });
            }
        }
        sweep(lab)?;
        let mut fleet = Self {
            lab: lab.clone(),
            programs: programs.to_owned(),
            server: None,
            kept: false,
            hosts: Vec::new(),
        };
        fs::create_dir_all(fleet.data()).map_err(LabError::io("make", &fleet.data()))?;
        fleet.start_server()?;
        Ok(fleet)
    }

    /// The server's data directory.
    pub fn data(&self) -> PathBuf {
        state(&self.lab).join("data")
    }

    /// Where the web page is.
    pub fn url(&self) -> String {
        format!("http://{}", self.operator())
    }

    /// Where operators reach the server: a port of the lab's own, so that two labs do not meet.
    fn operator(&self) -> String {
        let [.., network, _] = self.lab.gateway_ip().octets();
        format!("127.0.0.1:{}", 18_000 + u16::from(network))
    }

    /// Where agents reach the server.
    pub fn agents_url(&self) -> String {
        format!("https://{}:{AGENTS_PORT}", self.lab.gateway_ip())
    }

    /// What the server printed, both streams.
    pub fn server_log(&self) -> String {
        fs::read_to_string(state(&self.lab).join("server.log")).unwrap_or_default()
    }

    /// Starts the server and waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute; with what it printed.
    pub fn start_server(&mut self) -> Result<(), LabError> {
        self.begin_server(&[])?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_ready()? {
            if self.server_ended()?.is_some() || Instant::now() >= deadline {
                self.kill_server();
                return Err(LabError::Fleet {
                    what: format!("the server did not become ready:\n{}", self.server_log()),
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Starts the server's process and does not wait for it. `under`: a program that starts it in its own place, with
    /// its arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin_server(&mut self, under: &[&str]) -> Result<(), LabError> {
        let log_path = state(&self.lab).join("server.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(LabError::io("open", &log_path))?;
        let log2 = log.try_clone().map_err(LabError::io("open", &log_path))?;
        let program = self.programs.join("fettle");
        let mut command = match under.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        let child = command
            .args(["server", "--data"])
            .arg(self.data())
            .args(["--operator-listen", &self.operator(), "--agents-listen"])
            .arg(format!("{}:{AGENTS_PORT}", self.lab.gateway_ip()))
            // A fleet on one machine is small and watched by someone who waits.
            .args(["--checkin-idle", "5", "--checkin-busy", "1"])
            .env_remove("FETTLE_SERVER")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log2)
            .process_group(0)
            .spawn()
            .map_err(LabError::io("start", &program))?;
        record(&self.lab, child.id())?;
        self.server = Some(child);
        Ok(())
    }

    /// Does the server answer?
    ///
    /// # Errors
    /// When the command line cannot be started.
    pub fn is_ready(&self) -> Result<bool, LabError> {
        Ok(self.run(&["-o", "json", "feed", "list"])?.code == 0)
    }

    /// How the server's process has ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn server_ended(&mut self) -> Result<Option<ExitStatus>, LabError> {
        let program = self.programs.join("fettle");
        let Some(child) = &mut self.server else { return Ok(None) };
        let ended = child.try_wait().map_err(LabError::io("look at", &program))?;
        if ended.is_some() {
            self.server = None;
        }
        Ok(ended)
    }

    /// Kills the server at once (SIGKILL), as a crash would.
    pub fn kill_server(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs `fettle` with these arguments against the server.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Said, LabError> {
        let output = self
            .command(args)
            .output()
            .map_err(LabError::io("start", &self.programs.join("fettle")))?;
        Ok(Said {
            code: output.status.code().unwrap_or(255),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The command [`Fleet::run`] runs, for callers that want its streams.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("fettle"));
        command
            .env("FETTLE_SERVER", self.url())
            .env("FETTLE_TOKEN_FILE", self.data().join("operator.token"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs `fettle -o json` with these arguments and reads what it says.
    ///
    /// # Errors
    /// When the exit code is not 0 or the answer is not of this type.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T, LabError> {
        let all: Vec<&str> = ["-o", "json"].iter().chain(args).copied().collect();
        let said = self.run(&all)?;
        if said.code != 0 {
            return Err(LabError::Fleet {
                what: format!(
                    "`fettle {}`: exit code {}: {}",
                    all.join(" "),
                    said.code,
                    said.stderr
                ),
            });
        }
        serde_json::from_str(&said.stdout).map_err(|e| LabError::Fleet {
            what: format!(
                "`fettle {}` printed something else: {e}\n{}",
                all.join(" "),
                said.stdout
            ),
        })
    }

    /// Puts the agent on a host, enrols it with a one-time token and starts it as a service.
    ///
    /// # Errors
    /// When a step fails; with what the host said.
    pub fn enroll(&mut self, host: &LabHost, labels: &Labels) -> Result<(), LabError> {
        let mut args = vec!["token".to_owned(), "create".into(), "--ttl".into(), "10m".into()];
        for (key, value) in labels {
            args.extend(["--label".into(), format!("{key}={value}")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let made: TokenMade = self.json(&args)?;
        self.install_agent(host)?;
        host.exec(&[
            "fettle-agent",
            "enroll",
            "--server",
            &self.agents_url(),
            "--token",
            &made.token,
        ])?
        .ok()?;
        host.exec(&["systemctl", "enable", "--now", "fettle-agent.service"])?.ok()?;
        self.hosts.push(host.clone());
        Ok(())
    }

    /// Copies the agent and its unit into a host.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn install_agent(&self, host: &LabHost) -> Result<(), LabError> {
        host.copy_in(self.programs.join("fettle-agent"), "/usr/bin/fettle-agent")?;
        host.exec(&["chmod", "755", "/usr/bin/fettle-agent"])?.ok()?;
        host.write_file(
            "/etc/systemd/system/fettle-agent.service",
            include_str!("../../../deploy/fettle-agent.service"),
        )?;
        host.exec(&["systemctl", "daemon-reload"])?.ok()?;
        Ok(())
    }

    /// Waits until every enrolled host has reported an inventory.
    ///
    /// # Errors
    /// After `patience`, with the hosts that have not.
    pub fn wait_inventories(&self, patience: Duration) -> Result<Vec<HostRow>, LabError> {
        self.wait("every host's inventory", patience, || {
            let page: Page<HostRow> = self.json(&["host", "list"])?;
            let all = page.items.len() >= self.hosts.len()
                && page.items.iter().all(|h| h.state != "no-inventory");
            Ok(all.then_some(page.items))
        })
    }

    /// Waits until a rollout stands still: done, halted, aborted or paused, with no host at work.
    ///
    /// # Errors
    /// After `patience`, with the rollout as it is.
    pub fn wait_rollout(&self, id: &str, patience: Duration) -> Result<RolloutDetail, LabError> {
        self.wait(&format!("rollout {id} to stand still"), patience, || {
            let rollout: RolloutDetail = self.json(&["rollout", "show", id])?;
            let at_work =
                rollout.hosts.iter().any(|h| matches!(h.run.state.word(), "granted" | "redeemed"));
            let still = rollout.row.phase != fettle_core::rollout::Phase::Running;
            Ok((still && !at_work).then_some(rollout))
        })
    }

    /// Asks again and again until there is an answer.
    ///
    /// # Errors
    /// What `ask` says, or [`LabError::Fleet`] after `patience` with the end of the server's log.
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut() -> Result<Option<T>, LabError>,
    ) -> Result<T, LabError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                let log = crate::tool::last_lines(self.server_log().as_bytes(), 30);
                return Err(LabError::Fleet {
                    what: format!(
                        "waited {} s for {what}\nlast of the server's log:\n{log}",
                        patience.as_secs()
                    ),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Leaves the server running when this value goes, for someone to look around.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.kill_server();
        let _ = sweep(&self.lab);
    }
}

fn state(lab: &Lab) -> PathBuf {
    lab.config().dir.join("fleet")
}

fn record(lab: &Lab, pid: u32) -> Result<(), LabError> {
    let path = state(lab).join("server.json");
    let text = serde_json::to_vec(&ProcessId::of(pid)).unwrap_or_default();
    fs::write(&path, text).map_err(LabError::io("write", &path))
}

/// Ends a server that a dead run left, and removes the fleet's files.
///
/// # Errors
/// When the files cannot be removed.
pub fn sweep(lab: &Lab) -> Result<(), LabError> {
    let dir = state(lab);
    if let Ok(text) = fs::read(dir.join("server.json"))
        && let Ok(Some(server)) = serde_json::from_slice::<Option<ProcessId>>(&text)
    {
        let _ = server.kill();
    }
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::io("remove", &dir)(error))
        }
        _ => Ok(()),
    }
}
