//! Requests to a hub.
//!
//! In: what to ask for. Out: a listing, or the bytes of a file from some byte on. It upholds that the user's token goes to the
//! origin that the user named and nowhere else; that answers are of bounded length, redirects of a bounded number; that what may
//! go well another time is tried again, later each time, and everything else is one clear error that tells no secret.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::listing::{Listing, Remote};
use super::origin::{Origin, encoded, host, redirected};
use super::pace::Paced;
use super::repository::Repository;

/// The longest answer about a repository.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// The most redirects of one request.
const MAX_REDIRECTS: usize = 8;
/// How often something is tried before it is given up, if nothing comes of it.
const ATTEMPTS: u32 = 5;
/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// No connection, and no byte of an answer, takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks a hub.
pub(super) struct Client {
    agent: Agent,
    origin: Origin,
    token: Option<String>,
    /// In which some bytes must come.
    window: Duration,
}

/// A failure, and whether it may go well another time.
pub(super) struct Failure {
    pub(super) error: anyhow::Error,
    pub(super) is_passing: bool,
    /// Whether something came of it that was not there before: attempts are counted from this one.
    pub(super) came_further: bool,
    /// How long the server wants to be left alone.
    pub(super) pause: Option<Duration>,
}

impl Failure {
    pub(super) fn lasting(error: anyhow::Error) -> Self {
        Self { error, is_passing: false, came_further: false, pause: None }
    }

    pub(super) fn passing(error: anyhow::Error) -> Self {
        Self { error, is_passing: true, came_further: false, pause: None }
    }
}

impl Client {
    /// A client of the hub at `origin`, which trusts `roots`; some bytes must come in each `window`.
    pub(super) fn new(origin: Origin, token: Option<String>, roots: RootCerts, window: Duration) -> Result<Self> {
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            bail!("HF_TOKEN has characters that no token has");
        }
        let patience = if window.is_zero() { PATIENCE } else { PATIENCE.min(window) };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, where it is known whom the token is for.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("tern/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience));
        Ok(Self { agent: config.build().new_agent(), origin, token, window })
    }

    /// Host and port of the hub.
    pub(super) fn host(&self) -> &str {
        self.origin.host()
    }

    /// What the hub says of `repository`.
    pub(super) fn listing(&self, repository: &Repository) -> Result<Listing> {
        let (path, revision) = (repository.path(), encoded(repository.revision()));
        let url = self.origin.url(&format!("/api/models/{path}/revision/{revision}?blobs=true"));
        let json = patiently(|| {
            let response = self.get(&url, None)?;
            if response.status() != StatusCode::OK {
                return Err(self.refusal(&response, &repository.to_string()));
            }
            let mut json = Vec::new();
            let mut reader = self.paced(response).take(MAX_ANSWER_BYTES + 1);
            let read = reader.read_to_end(&mut json).context("the connection broke");
            read.map_err(Failure::passing)?;
            if json.len() as u64 > MAX_ANSWER_BYTES {
                let error = anyhow!("the hub's answer about {repository} has more than {MAX_ANSWER_BYTES} bytes");
                return Err(Failure::lasting(error));
            }
            Ok(json)
        })?;
        Listing::parse(repository, &json)
    }

    /// The bytes of `file` from byte `start` on, and where they really start: a server may give all of them.
    pub(super) fn bytes(
        &self,
        repository: &Repository,
        commit: &str,
        file: &Remote,
        start: u64,
    ) -> Result<(u64, Box<dyn Read>), Failure> {
        let name: Vec<String> = file.name.split('/').map(encoded).collect();
        let url = self.origin.url(&format!("/{}/resolve/{commit}/{}", repository.path(), name.join("/")));
        let mut response = self.get(&url, (start > 0).then_some(start))?;
        if start > 0 && response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            response = self.get(&url, None)?;
        }
        let from = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&response, "content-range");
                let expected = format!("bytes {start}-{}/{}", file.bytes.saturating_sub(1), file.bytes);
                if range != Some(expected.as_str()) {
                    let error = anyhow!("{} gives other bytes of {} than were asked for", host(&url), file.name);
                    return Err(Failure::lasting(error));
                }
                start
            }
            _ => return Err(self.refusal(&response, &format!("{} of {repository}", file.name))),
        };
        let left = file.bytes.saturating_sub(from);
        let length = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| *length != left) {
            let error = anyhow!("{} has {length} bytes of {}, and the hub lists {left}", host(&url), file.name);
            return Err(Failure::lasting(error));
        }
        Ok((from, Box::new(self.paced(response))))
    }

    /// The bytes of `response`, which may not come too slowly.
    fn paced(&self, response: Response<Body>) -> Paced<impl Read + use<>> {
        Paced::new(response.into_body().into_reader(), self.window)
    }

    /// Asks for `url`, from byte `start` on, and follows redirects.
    fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            // Compressed bytes have other lengths.
            let mut request = self.agent.get(&url).header("accept-encoding", "identity");
            if let Some(token) = self.token.as_ref().filter(|_| self.origin.is_of(&url)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(start) = start {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|e| unreachable(&url, &e))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(location) = header(&response, "location") else {
                return Err(Failure::lasting(anyhow!("{} redirects to nowhere", host(&url))));
            };
            url = redirected(&url, location).map_err(Failure::lasting)?;
        }
        Err(Failure::lasting(anyhow!("{} redirects more than {MAX_REDIRECTS} times", self.origin.host())))
    }

    /// What an answer that is none means.
    fn refusal(&self, response: &Response<Body>, what: &str) -> Failure {
        let hub = self.origin.host();
        let status = response.status();
        let error = match status.as_u16() {
            401 | 403 if self.token.is_some() => anyhow!(
                "{hub} does not give {what} to the holder of HF_TOKEN ({status}): it may have to be asked for on its page"
            ),
            401 | 403 => anyhow!("{hub} gives {what} only to those it knows ({status}): set HF_TOKEN"),
            404 => anyhow!("{hub} has no {what} ({status}): look at owner, name and revision"),
            _ => anyhow!("{hub} answers {status} when asked for {what}"),
        };
        let seconds = header(response, "retry-after").and_then(|text| text.parse().ok());
        let pause = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE));
        let is_passing = matches!(status.as_u16(), 408 | 429 | 500 | 502..=504);
        Failure { error, is_passing, came_further: false, pause }
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// Nothing came at all. Where there is no network it will not be there a second later.
fn unreachable(url: &str, e: &ureq::Error) -> Failure {
    let is_passing = match e {
        ureq::Error::Io(e) => e.kind() != std::io::ErrorKind::ConnectionRefused,
        ureq::Error::Protocol(_) => true,
        // One that takes a connection and says nothing will say nothing a moment later.
        ureq::Error::Timeout(timeout) => {
            use ureq::Timeout::{Connect, RecvResponse, Resolve};
            !matches!(timeout, Resolve | Connect | RecvResponse)
        }
        _ => false,
    };
    let host = host(url);
    let error = match e.to_string() {
        e if e.contains("certificate") => {
            anyhow!("cannot trust {host}: {e}; SSL_CERT_FILE names a PEM file of certificates to trust instead")
        }
        e => anyhow!("cannot reach {host}: {e}; without a network, give the folder of a model that is here"),
    };
    Failure { error, is_passing, came_further: false, pause: None }
}

/// Tries until it goes well, or will not, with a pause between any two attempts.
pub(super) fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let (mut left, mut pause) = (ATTEMPTS, FIRST_PAUSE);
    loop {
        let failure = match attempt() {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        if failure.came_further {
            (left, pause) = (ATTEMPTS, FIRST_PAUSE);
        }
        left = left.saturating_sub(1);
        if left == 0 || !failure.is_passing {
            return Err(failure.error);
        }
        std::thread::sleep(failure.pause.unwrap_or(pause));
        pause = pause.saturating_mul(2).min(MAX_PAUSE);
    }
}
