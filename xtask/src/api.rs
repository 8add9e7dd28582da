//! The API held against its own description, by a program that makes calls up from it (schemathesis): no call ends with a
//! status, a type or a body that the description does not have, and none is answered without its token.

use crate::build::{programs, run, target};
use crate::lab::say;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The release that is run: another may find other things, and is to be tried on purpose.
const RELEASE: &str = "schemathesis==4.32.5";
/// What every answer is held against.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,ignored_auth";
/// Answers without an end (events), and a call that others' servers would notice (sync).
const LEFT_OUT: [&str; 2] = ["/events", "/feeds/sync"];

/// Make calls up from the API's own description, and see whether the answers fit it.
#[derive(Debug, Args)]
pub(crate) struct Api {
    /// Calls that are made up for each operation.
    #[arg(long, default_value_t = 30)]
    examples: u32,
    /// What they are made up from: the same number makes the same calls.
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

impl Default for Api {
    fn default() -> Self {
        Self { examples: 30, seed: 1 }
    }
}

impl Api {
    pub(crate) fn run(self) -> Result<()> {
        let program = installed()?;
        let fettle = programs("dev")?.join("fettle");
        let dir = std::env::temp_dir().join(format!("fettle-api-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let tried = self.within(&program, &fettle, &dir);
        fs::remove_dir_all(&dir)?;
        tried
    }

    fn within(&self, program: &Path, fettle: &Path, dir: &Path) -> Result<()> {
        let server = Server::start(fettle, dir)?;
        let token = fs::read_to_string(dir.join("operator.token"))?;
        let policy = crate::build::root().join("examples/policies/demo.toml");
        run(Command::new(fettle)
            .args(["--server", &server.url, "policy", "apply"])
            .arg(policy)
            .env("FETTLE_TOKEN_FILE", dir.join("operator.token")))?;
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg(format!("{}/api/v1/openapi.json", server.url))
            .arg("-H")
            .arg(format!("Authorization: Bearer {}", token.trim()))
            .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
            .args(["--max-examples", &self.examples.to_string()])
            .args(["--seed", &self.seed.to_string()])
            .args(["--warnings", "off", "--no-color"])
            // Importing all feeds takes its time, on a busy machine most of all.
            .args(["--request-timeout", "180"])
            .env("SCHEMATHESIS_HOOKS", "serializers")
            .env("PYTHONPATH", crate::build::root().join("xtask/src/api"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(dir);
        for path in LEFT_OUT {
            command.args(["--exclude-path", path]);
        }
        run(&mut command)
    }
}

/// Where it is, installed where it is missing: in a directory of its own, by Python's own installer.
fn installed() -> Result<PathBuf> {
    let home = target().join("schemathesis");
    let program = home.join("bin/schemathesis");
    if program.is_file() {
        return Ok(program);
    }
    say(&format!("installing {RELEASE}: it holds the API against its description"));
    run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    run(Command::new(home.join("bin/pip")).args(["install", "--quiet", RELEASE]))?;
    Ok(program)
}

/// A server of our own; ended when dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(fettle: &Path, dir: &Path) -> Result<Self> {
        let free = || Ok::<_, anyhow::Error>(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let (operator, agents) = (free()?.to_string(), free()?.to_string());
        let process = Command::new(fettle)
            .args(["server", "--operator-listen", &operator, "--agents-listen", &agents, "--data"])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("server.log"))?)
            .spawn()
            .context("starting the server")?;
        let server = Self { process, url: format!("http://{operator}") };
        let until = Instant::now() + Duration::from_secs(180);
        while !is_ready(&operator) {
            if Instant::now() > until {
                bail!("the server was not ready within three minutes");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(server)
    }
}

fn is_ready(address: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let ask = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut said = String::new();
    stream.write_all(ask).is_ok()
        && stream.read_to_string(&mut said).is_ok()
        && said.starts_with("HTTP/1.1 200")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
