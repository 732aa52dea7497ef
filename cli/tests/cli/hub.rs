//! A server on this machine that imitates a hub, and its faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::support::tern;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, and please come again at once.
    Status(u16),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// It stays open after so many, and nothing more comes.
    Stall(usize),
    /// So many at a time come, again and again, slowly.
    Trickle(usize),
    /// One byte is another.
    Corrupt,
    /// More bytes than there are, without a length.
    Longer,
    /// A length that is not the file's.
    OtherLength,
    /// All bytes, whatever part was asked for.
    IgnoreRange,
    /// Another part than was asked for.
    OtherRange,
    /// To there.
    Redirect(String),
    /// Another answer to the question what there is.
    Listing(String),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct State {
    /// By name: the bytes, and whether they are kept elsewhere.
    files: BTreeMap<String, (Vec<u8>, bool)>,
    log: Vec<Request>,
    /// Faults of the next answers to paths that contain a text.
    faults: Vec<(String, Fault)>,
    /// Where large files are.
    elsewhere: u16,
}

/// A hub, and the server beside it that has the large files.
pub(crate) struct Hub {
    pub(crate) port: u16,
    pub(crate) elsewhere: u16,
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// A hub with the model OWNER/NAME; of each file name, bytes, and whether it is a large one.
    pub(crate) fn new(files: &[(&str, Vec<u8>, bool)]) -> Self {
        let files = files.iter().map(|(name, bytes, large)| ((*name).to_owned(), (bytes.clone(), *large)));
        let state = Arc::new(Mutex::new(State { files: files.collect(), ..State::default() }));
        let listen = |state: Arc<Mutex<State>>| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            // It ends with the test's process.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || answer(&state, stream));
                }
            });
            port
        };
        let elsewhere = listen(Arc::clone(&state));
        state.lock().expect("the state").elsewhere = elsewhere;
        Self { port: listen(Arc::clone(&state)), elsewhere, state }
    }

    /// A hub with the files of a fixture.
    pub(crate) fn of_fixture(folder: &Path) -> Self {
        let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
        Self::new(&[
            ("README.md", b"# A model".to_vec(), false),
            ("config.json", read("config.json"), false),
            ("model.safetensors", read("model.safetensors"), true),
            ("pytorch_model.bin", b"no".to_vec(), true),
            ("tokenizer.json", read("tokenizer.json"), false),
            ("tokenizer_config.json", read("tokenizer_config.json"), false),
        ])
    }

    /// Where its models lie.
    pub(crate) fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("hub/http%3A%2F%2F127.0.0.1%3A{}", self.port))
    }

    /// The next answer to a path that contains `path` goes wrong.
    pub(crate) fn fault(&self, path: &str, fault: Fault) {
        self.state.lock().expect("the state").faults.push((path.to_owned(), fault));
    }

    /// Requests so far, of paths that contain `path`.
    pub(crate) fn requests(&self, path: &str) -> Vec<Request> {
        let state = self.state.lock().expect("the state");
        state.log.iter().filter(|request| request.path.contains(path)).cloned().collect()
    }

    /// `tern` with this hub and a cache of its own.
    pub(crate) fn tern(&self, cache: &Path) -> Command {
        let mut command = tern();
        for name in [
            "http_proxy",
            "HTTP_PROXY",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
            "SSL_CERT_FILE",
        ] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port));
        command.env("TERN_CACHE_DIR", cache);
        command
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(Request { path, headers: headers.collect() })
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn listing(state: &State) -> String {
    let siblings = state.files.iter().map(|(name, (bytes, large))| {
        let blob = hex(Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize());
        let mut file = serde_json::json!({"rfilename": name, "size": bytes.len(), "blobId": blob});
        if *large {
            file["blobId"] = "0".repeat(40).into();
            file["lfs"] =
                serde_json::json!({"sha256": hex(Sha256::digest(bytes)), "size": bytes.len(), "pointerSize": 1});
        }
        file
    });
    serde_json::json!({"id": "OWNER/NAME", "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()}).to_string()
}

fn answer(state: &Mutex<State>, mut stream: TcpStream) {
    let Some(request) = read(&stream) else { return };
    let (fault, found, listing, elsewhere) = {
        let mut state = state.lock().expect("the state");
        state.log.push(request.clone());
        let at = state.faults.iter().position(|(path, _)| request.path.contains(path));
        let fault = at.map(|at| state.faults.remove(at).1);
        let path = request.path.split('?').next().unwrap_or_default();
        let name = path.strip_prefix(&format!("/OWNER/NAME/resolve/{COMMIT}/")).or(path.strip_prefix("/large/"));
        let found = name.and_then(|name| Some((name.to_owned(), state.files.get(name)?.clone())));
        let is_listing = path == "/api/models/OWNER/NAME/revision/main";
        (fault, found, is_listing.then(|| listing(&state)), state.elsewhere)
    };
    let mut send = |head: &str, body: &[u8]| {
        let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
        let _ = stream.write_all(body);
        let _ = stream.flush();
    };
    match (&fault, found, listing) {
        (Some(Fault::Status(status)), ..) => send(&format!("{status} No\r\nRetry-After: 0\r\nContent-Length: 0"), b""),
        (Some(Fault::Redirect(to)), ..) => send(&format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"), b""),
        (Some(Fault::Listing(json)), ..) => send(&format!("200 OK\r\nContent-Length: {}", json.len()), json.as_bytes()),
        (_, _, Some(json)) => send(&format!("200 OK\r\nContent-Length: {}", json.len()), json.as_bytes()),
        (_, Some((name, (_, true))), _) if !request.path.starts_with("/large/") => {
            let to = format!("http://127.0.0.1:{elsewhere}/large/{name}?signature=hush");
            send(&format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"), b"");
        }
        (_, Some((_, (bytes, _))), _) => {
            let all = bytes.len();
            let start =
                request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            let start: usize = start.filter(|_| !matches!(fault, Some(Fault::IgnoreRange))).unwrap_or(0);
            let mut body = bytes[start..].to_vec();
            let claimed = if matches!(fault, Some(Fault::OtherRange)) { start - 1 } else { start };
            let length = body.len() + usize::from(matches!(fault, Some(Fault::OtherLength)));
            let mut head = match start {
                0 => "200 OK".to_owned(),
                _ => format!("206 Partial Content\r\nContent-Range: bytes {claimed}-{}/{all}", all - 1),
            };
            match fault {
                Some(Fault::Corrupt) => body[0] ^= 1,
                Some(Fault::Longer) => body.extend([0; 4096]),
                _ => head += &format!("\r\nContent-Length: {length}"),
            }
            match fault {
                Some(Fault::Cut(n)) => send(&head, &body[..n]),
                Some(Fault::Stall(n)) => {
                    send(&head, &body[..n]);
                    // Until the other side is gone.
                    let _ = std::io::Read::read(&mut stream, &mut [0]);
                }
                Some(Fault::Trickle(n)) => {
                    send(&head, b"");
                    for part in body.chunks(n) {
                        // It comes to an end when the other side is gone.
                        if stream.write_all(part).is_err() {
                            break;
                        }
                        std::thread::sleep(std::time::Duration::from_millis(50));
                    }
                }
                _ => send(&head, &body),
            }
        }
        _ => send("404 Not Found\r\nContent-Length: 0", b""),
    }
}
