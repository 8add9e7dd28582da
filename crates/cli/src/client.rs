//! The API, from outside.

use crate::args::Globals;
use fettle_core::{Problem, ProblemKind};
use fettle_wire::api::ApiProblem;
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 30;
/// A server that does not take a connection in this time is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// A feed's import judges the whole fleet before it is answered.
const ANSWER: Duration = Duration::from_secs(600);

/// A server, and the token for it.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    /// `None`: whoever asks is nobody yet.
    token: Option<String>,
}

impl Client {
    /// Reads the token; talks to nobody yet.
    pub(crate) fn new(globals: &Globals) -> Result<Self, Problem> {
        let path = &globals.token_file;
        let token = std::fs::read_to_string(path).map_err(|error| {
            Problem::new(
                ProblemKind::Forbidden,
                "token-file",
                format!("your token cannot be read from {}: {error}", path.display()),
                "name the file with --token-file or FETTLE_TOKEN_FILE; the server writes the first admin's to DATA/operator.token",
            )
        })?;
        Ok(Self { token: Some(token.trim().to_owned()), ..Self::stranger(globals) })
    }

    /// One that asks without a token.
    pub(crate) fn stranger(globals: &Globals) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ANSWER))
            // The token goes to the server that was named and to nobody between.
            .proxy(None)
            .max_redirects(0)
            .build()
            .into();
        let base = globals.server.trim_end_matches('/').to_owned();
        Self { agent, base, token: None }
    }

    /// The request, with who asks.
    fn known<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// The server's address, without a slash at the end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks for a value.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let request = self.known(self.agent.get(self.url(path)));
        self.read(request.call())
    }

    /// Asks for bytes.
    pub(crate) fn get_bytes(&self, path: &str) -> Result<Vec<u8>, Problem> {
        let request = self.known(self.agent.get(self.url(path)));
        match request.call() {
            Ok(mut answer) if answer.status().is_success() => {
                let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
                body.map_err(|e| self.silent(&e))
            }
            other => Err(self.read::<serde_json::Value>(other).err().unwrap_or_else(no_bytes)),
        }
    }

    /// Asks for a document, and writes it as it comes, however large. Gives how many bytes it had.
    pub(crate) fn save(&self, path: &str, to: &mut impl std::io::Write) -> Result<u64, Problem> {
        let request = self.known(self.agent.get(self.url(path)));
        let mut answer = request.call().map_err(|e| self.silent(&e))?;
        if !answer.status().is_success() {
            return Err(self.read::<serde_json::Value>(Ok(answer)).err().unwrap_or_else(no_bytes));
        }
        std::io::copy(&mut answer.body_mut().as_reader(), to).map_err(|error| {
            let message = format!("the document did not arrive whole: {error}");
            let hint = "look whether there is room for it, and ask again";
            Problem::new(ProblemKind::Environment, "file", message, hint)
        })
    }

    /// Sends a value.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let bytes = json(body)?;
        self.post_bytes(path, "application/json", &bytes)
    }

    /// Sends bytes.
    pub(crate) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<T, Problem> {
        let request = self.known(self.agent.post(self.url(path))).header("content-type", kind);
        self.read(request.send(bytes))
    }

    /// Puts a value in the place of another.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        self.read(self.putting(path, body)?)
    }

    fn putting(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<ureq::http::Response<ureq::Body>, ureq::Error>, Problem> {
        let request =
            self.known(self.agent.put(self.url(path))).header("content-type", "application/json");
        Ok(request.send(&json(body)?))
    }

    /// Puts a value in the place of another; nothing comes back.
    pub(crate) fn put_for_nothing(&self, path: &str, body: &impl Serialize) -> Result<(), Problem> {
        match self.putting(path, body)? {
            Ok(answer) if answer.status().as_u16() == 204 => Ok(()),
            other => self.read::<serde_json::Value>(other).map(drop),
        }
    }

    /// Takes something away.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Problem> {
        let request = self.known(self.agent.delete(self.url(path)));
        match request.call() {
            Ok(answer) if answer.status().as_u16() == 204 => Ok(()),
            other => self.read::<serde_json::Value>(other).map(drop),
        }
    }

    /// Takes something away; gives what is left.
    pub(crate) fn delete_for<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let request = self.known(self.agent.delete(self.url(path)));
        self.read(request.call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Problem> {
        let mut answer = answer.map_err(|e| self.silent(&e))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = body.map_err(|e| self.silent(&e))?;
        if (200..300).contains(&status) {
            return serde_json::from_str(&text).map_err(|e| {
                Problem::new(
                    ProblemKind::Internal,
                    "answer-not-understood",
                    format!("the answer of {} is not what this program knows: {e}", self.base),
                    "use the `fettle` of the server's version: compare `fettle --version`",
                )
            });
        }
        Err(match serde_json::from_str::<ApiProblem>(&text) {
            Ok(it) => Problem {
                kind: kind(it.kind, status),
                code: it.code,
                message: it.message,
                hint: it.hint,
            },
            Err(_) => Problem::new(
                ProblemKind::Unavailable,
                "no-fettle-server",
                format!(
                    "{} answered with HTTP status {status}, and not as a Fettle server does",
                    self.base
                ),
                "check --server: another program may listen there",
            ),
        })
    }

    fn silent(&self, error: &ureq::Error) -> Problem {
        Problem::new(
            ProblemKind::Unavailable,
            "server-unreachable",
            format!("no server answers at {}: {error}", self.base),
            "start one with `fettle server`, or name another with --server or FETTLE_SERVER",
        )
    }
}

fn no_bytes() -> Problem {
    let hint = "this is a defect of Fettle: please report it";
    Problem::new(ProblemKind::Internal, "no-bytes", "the server sent no bytes", hint)
}

/// The kind as the server told it; by the status where this program does not know the word.
fn kind(word: String, status: u16) -> ProblemKind {
    serde_json::from_value(serde_json::Value::String(word)).unwrap_or(match status {
        401 | 403 => ProblemKind::Forbidden,
        404 => ProblemKind::NotFound,
        503 => ProblemKind::Unavailable,
        400..500 => ProblemKind::Usage,
        _ => ProblemKind::Internal,
    })
}

/// Percent-encodes everything but RFC 3986's unreserved characters, for one segment or value.
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// A value as it is sent.
fn json(body: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(body).map_err(|e| {
        Problem::new(ProblemKind::Internal, "not-json", e, "this is a defect of this build")
    })
}
