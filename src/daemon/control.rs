//! The control socket: one request, a line of JSON, then answers, each a line of JSON.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::live::Live;

/// Where the daemon listens.
pub(crate) const SOCKET: &str = "/run/xds-sync/control";
/// Longest request.
const MAX_REQUEST: u64 = 64 * 1024;
/// Most clients at a time.
const MAX_CLIENTS: usize = 32;
/// How long a client may take for its request, or to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks of `status --follow`.
const FOLLOW: Duration = Duration::from_secs(1);

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How the daemon is; with `follow` again and again.
    Status {
        #[serde(default)]
        follow: bool,
    },
    /// A run now.
    Sync(SyncRequest),
}

/// A run that is asked for, with the options of `xds-sync sync`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SyncRequest {
    /// Digest of the configuration that is meant; without one it is the daemon's.
    pub(crate) config: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) nodes: Vec<String>,
    pub(crate) directories: Vec<String>,
    pub(crate) checksum: bool,
    pub(crate) reload: bool,
    pub(crate) accept_deletes: Vec<String>,
    /// Answer what `sync --cron` prints, in place of the report.
    pub(crate) cron: bool,
    /// How the report is to be written.
    pub(crate) format: Format,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// As `sync --json`.
    #[default]
    Json,
    /// For people; as `--quiet`.
    Quiet,
    Normal,
    Verbose,
    /// The same in colour.
    QuietColor,
    NormalColor,
    VerboseColor,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    Status(Live),
    /// Bytes more that will move to or from a node.
    Planned {
        node: String,
        bytes: u64,
    },
    /// Bytes that have moved.
    Moved {
        node: String,
        bytes: u64,
    },
    /// The run is over.
    Done {
        exit_code: u8,
        /// Whether a dry run found any.
        differences: bool,
        /// Sources of nodes that failed.
        failures: Vec<String>,
        /// The report, as it was asked for.
        output: String,
    },
    /// There was no run, and why.
    Refused {
        why: String,
    },
    /// The daemon goes by another configuration.
    OtherConfiguration,
}

/// Takes requests. Each is handed on with where its answers go; once that end is dropped the client has its last one.
pub(super) fn listen(
    path: &Path,
    ask: impl Fn(Request, Sender<Event>) + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let listener = bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    let clients = std::sync::Arc::new(());
    thread::Builder::new().name("control".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // No descriptors, say: that passes, and the loop must not spin.
                thread::sleep(FOLLOW);
                continue;
            };
            let (client, ask) = (std::sync::Arc::clone(&clients), ask.clone());
            if std::sync::Arc::strong_count(&clients) > MAX_CLIENTS {
                continue;
            }
            // Without a thread for it the client is hung up on.
            let _ = thread::Builder::new().spawn(move || {
                let _client = client;
                // A client that has gone needs no answer.
                let _ = serve(stream, ask);
            });
        }
    })?;
    Ok(())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // The caller is the only daemon there is: what lies here was left by one that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Until here only the directory keeps others out.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn serve(stream: UnixStream, ask: impl Fn(Request, Sender<Event>)) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_REQUEST)).read_line(&mut line)?;
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return answer(&stream, &Event::Refused { why: format!("no such request: {error}") }),
    };
    loop {
        let (sender, answers) = channel();
        ask(request.clone(), sender);
        for event in answers {
            answer(&stream, &event)?;
        }
        if request != (Request::Status { follow: true }) {
            return Ok(());
        }
        thread::sleep(FOLLOW);
    }
}

fn answer(mut stream: &UnixStream, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// A conversation with a living daemon.
pub(crate) struct Client {
    answers: BufReader<UnixStream>,
}

impl Client {
    /// Asks the daemon; `None`: there is none.
    pub(crate) fn ask(path: &Path, request: &Request) -> anyhow::Result<Option<Client>> {
        let mut stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::PermissionDenied => Ok(None),
                    _ => Err(error).with_context(|| format!("asking the daemon at {}", path.display())),
                };
            }
        };
        if matches!(request, Request::Status { .. }) {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        // Where it has just gone, there is no answer either.
        let _ = stream.write_all(&line);
        Ok(Some(Client { answers: BufReader::new(stream) }))
    }

    /// The next answer; `None` after the last one, or when the daemon has gone.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Event>> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            // One that was killed resets the connection.
            Ok(0) | Err(_) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line).context("the daemon is of another version")?)),
        }
    }
}

/// Bytes on their way, told to a client.
pub(super) struct Telling(pub(super) std::sync::Mutex<Sender<Event>>);

impl Telling {
    fn tell(&self, event: Event) {
        let sender = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A client that has gone needs no progress.
        let _ = sender.send(event);
    }
}

impl crate::sync::Progress for Telling {
    fn at(&self, _: &str, _: crate::sync::Phase) {}

    fn planned(&self, node: &str, bytes: u64) {
        self.tell(Event::Planned { node: node.to_owned(), bytes });
    }

    fn moved(&self, node: &str, bytes: u64) {
        self.tell(Event::Moved { node: node.to_owned(), bytes });
    }
}
