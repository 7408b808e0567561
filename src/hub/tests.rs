#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::sync::oneshot;

use super::downloads::Download;
use super::*;
use crate::enroll::join::{Main, fetch_key};
use crate::fetch::{self, Trust};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT xds-sync main\n";

/// A hub with a certificate of its own.
pub(crate) struct Hub {
    dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Hub {
    fn new(limits: Limits) -> Hub {
        Hub::offering(limits, b"program".to_vec())
    }

    fn offering(limits: Limits, program: Vec<u8>) -> Hub {
        Hub::serving(limits, program, None)
    }

    /// One that serves a store as well.
    pub(crate) fn serving(limits: Limits, program: Vec<u8>, store: Option<Store>) -> Hub {
        Hub::with(tempfile::tempdir().unwrap(), limits, program, (store, None))
    }

    /// One that shows how a cluster is.
    pub(crate) fn showing(limits: Limits, board: Board) -> Hub {
        Hub::with(tempfile::tempdir().unwrap(), limits, b"program".to_vec(), (None, Some(board)))
    }

    /// One whose state is there already.
    fn in_dir(dir: tempfile::TempDir) -> Hub {
        Hub::with(dir, Limits::default(), Vec::new(), (None, None))
    }

    fn with(
        dir: tempfile::TempDir,
        limits: Limits,
        program: Vec<u8>,
        (store, board): (Option<Store>, Option<Board>),
    ) -> Hub {
        let key = dir.path().join("key.pub");
        fs::write(&key, KEY).unwrap();
        let keys = vec![dir.path().join("not yet"), key];
        let download = Download { name: "xds-sync", kind: "application/octet-stream", content: program };
        let routes = routes::routes(Content { keys, downloads: vec![download], store, board });
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let count = axum::middleware::map_request(move |request: axum::extract::Request| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { request }
        });
        let routes = routes.layer(count);
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(listen, own(dir.path(), &["localhost", "127.0.0.1"]), limits).unwrap();
        let address = server.address().unwrap();
        let (end, ended) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ready = || ready.send(()).unwrap();
            let end = async { Ok(ended.await?) };
            runtime.block_on(server.serve(routes, SystemTime::now, |_| {}, ready, end))
        });
        is_ready.recv().unwrap();
        Hub { dir, address, requests, end: Some(end), thread: Some(thread) }
    }

    fn trust(&self) -> Trust {
        Trust::File(self.certificate())
    }

    /// How many requests it has had.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("hub/certificate.pem")
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("https://localhost:{}{path}", self.address.port()).parse().unwrap();
        fetch::get(&url, &self.trust(), fetch::SMALL)
    }

    /// Asks for the program, and takes no more than the beginning of the answer.
    fn stalled_download(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.certificate()).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(self.address).unwrap());
        stream.write_all(b"GET /xds-sync/xds-sync HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        stream
    }

    pub(crate) fn end(mut self) {
        self.end.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn own(dir: &Path, names: &[&str]) -> Certificate {
    Certificate::Own { dir: dir.join("hub"), names: names.iter().map(|&name| name.to_owned()).collect() }
}

#[test]
fn a_node_joins_from_it() {
    let hub = Hub::new(Limits::default());
    let main = Main::parse(&format!("127.0.0.1:{}", hub.address.port())).unwrap();
    let key = fetch_key(&main, &hub.trust(), None, fetch::SMALL).unwrap();
    assert_eq!(format!("{}\n", key.to_openssh().unwrap()), KEY);
    hub.end();
}

#[test]
fn what_is_there_is_served_and_nothing_else() {
    let hub = Hub::new(Limits::default());
    assert_eq!(hub.get(routes::KEY).unwrap(), KEY.as_bytes());
    assert_eq!(hub.get("/xds-sync/xds-sync").unwrap(), b"program");
    let sum = String::from_utf8(hub.get("/xds-sync/xds-sync.sha256").unwrap()).unwrap();
    // echo -n program | sha256sum
    assert_eq!(sum, "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8  xds-sync\n");
    for path in ["/", "/ssh-key/", "/ssh-key/../key", "/xds-sync/", "/ssh-key/rsync_xds"] {
        assert!(format!("{:#}", hub.get(path).unwrap_err()).contains("404"), "{path}");
    }
    // A new key is served at once; a secret is not.
    fs::write(hub.dir.path().join("not yet"), "ssh-ed25519 new\n").unwrap();
    assert_eq!(hub.get(routes::KEY).unwrap(), b"ssh-ed25519 new\n");
    fs::write(hub.dir.path().join("not yet"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    assert_eq!(hub.get(routes::KEY).unwrap(), KEY.as_bytes());
    hub.end();
}

#[test]
fn without_a_key_it_says_what_to_do() {
    let hub = Hub::new(Limits::default());
    fs::remove_file(hub.dir.path().join("key.pub")).unwrap();
    assert!(format!("{:#}", hub.get(routes::KEY).unwrap_err()).contains("404"));
    hub.end();
}

#[test]
fn who_is_slow_or_says_too_much_is_hung_up_on() {
    let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() };
    let hub = Hub::new(limits);
    // Nothing is said: the stream ends, instead of staying open.
    let mut silent = TcpStream::connect(hub.address).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0);
    let mut nonsense = TcpStream::connect(hub.address).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = nonsense.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));
    let long = format!("/{}", "x".repeat(limits.head));
    let refused = format!("{:#}", hub.get(&long).unwrap_err());
    assert!(refused.contains("414") || refused.contains("431"), "{refused}");
    hub.end();
}

#[test]
fn who_comes_when_all_places_are_taken_waits() {
    let limits =
        Limits { connections: 1, handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let hub = Hub::new(limits);
    let _silent = TcpStream::connect(hub.address).unwrap();
    assert_eq!(hub.get(routes::KEY).unwrap(), KEY.as_bytes());
    hub.end();
}

/// More than the buffers between two ends of a connection hold.
const LARGE: usize = 32 << 20;

#[test]
fn a_client_has_its_places_and_no_more() {
    let hub = Hub::new(Limits { per_client: 2, ..Limits::default() });
    let held = [(); 2].map(|()| TcpStream::connect(hub.address).unwrap());
    assert!(hub.get(routes::KEY).is_err());
    drop(held);
    let mut answered = hub.get(routes::KEY);
    // The hub has yet to see that they went.
    for _ in 0..1000 {
        if answered.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        answered = hub.get(routes::KEY);
    }
    assert_eq!(answered.unwrap(), KEY.as_bytes());
    hub.end();
}

#[test]
fn downloads_leave_places_for_the_key() {
    let hub = Hub::offering(Limits { downloads: 2, ..Limits::default() }, vec![b'x'; LARGE]);
    let _stalled = [hub.stalled_download(), hub.stalled_download()];
    assert!(format!("{:#}", hub.get("/xds-sync/xds-sync").unwrap_err()).contains("503"));
    assert_eq!(hub.get(routes::KEY).unwrap(), KEY.as_bytes());
    hub.end();
}

#[test]
fn who_takes_too_little_is_cut_off() {
    let limits = Limits { connections: 1, window: Duration::from_millis(100), ..Limits::default() };
    let hub = Hub::offering(limits, vec![b'x'; LARGE]);
    let _stalled = hub.stalled_download();
    assert_eq!(hub.get(routes::KEY).unwrap(), KEY.as_bytes());
    hub.end();
}

#[test]
fn the_script_that_is_offered_knows_the_program() {
    let [program, script] = downloads::all(b"program".to_vec());
    let text = String::from_utf8(script.content.clone()).unwrap();
    assert!(text.contains(&format!("\nprogram_sum={}\n", program.sha256())), "{text}");
    for line in downloads::install_lines("main:8443", &script.sha256(), "SHA256:x") {
        assert!(
            line.contains(&format!("echo '{}  mds_install.sh' | sha256sum -c && ", script.sha256())),
            "{line}"
        );
    }
}

#[test]
fn it_ends_while_a_connection_is_open() {
    let hub = Hub::new(Limits { shutdown_grace: Duration::from_millis(50), ..Limits::default() });
    let _silent = TcpStream::connect(hub.address).unwrap();
    hub.end();
}

#[test]
fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let certificate = own(Path::new("/nowhere"), &["localhost"]);
    let error = Server::bind(listen, certificate, Limits::default()).unwrap_err().to_string();
    assert!(error.contains(&listen.to_string()) && error.contains("ss -ltnp"), "{error}");
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_certificate_of_its_own_is_kept_while_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hub/certificate.pem");
    let read = || fs::read_to_string(&file).unwrap();
    let now = SystemTime::now();
    let make = |names: &[&str], now| own(dir.path(), names).server_config(now).map(drop).unwrap();
    make(&["main", "10.0.0.10"], now);
    let first = read();
    make(&["main", "10.0.0.10"], now + 300 * DAY);
    make(&["10.0.0.10"], now);
    assert_eq!(read(), first, "kept");

    make(&["main", "10.0.0.11"], now);
    let renamed = read();
    assert_ne!(renamed, first, "another address");
    make(&["main", "10.0.0.11"], now + 350 * DAY);
    assert_ne!(read(), renamed, "it would have ended soon");

    let last = read();
    fs::write(dir.path().join("hub/key.pem"), "damaged").unwrap();
    make(&["main", "10.0.0.11"], now + 350 * DAY);
    assert_ne!(read(), last, "its key was damaged");
    use std::os::unix::fs::MetadataExt as _;
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(dir.path().join("hub/key.pem")), mode(dir.path().join("hub"))), (0o600, 0o700));
}

/// Nodes that have the file of the first year go on: what they believe is the authority in it.
#[test]
fn who_believes_the_certificate_of_the_first_year_believes_those_of_all_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let long_ago = SystemTime::now() - 5 * 365 * DAY;
    own(dir.path(), &["localhost"]).server_config(long_ago).unwrap();
    let pinned = dir.path().join("pinned.pem");
    fs::copy(dir.path().join("hub/certificate.pem"), &pinned).unwrap();
    let hub = Hub::in_dir(dir);
    assert_ne!(fs::read(&pinned).unwrap(), fs::read(hub.certificate()).unwrap(), "it is made anew");
    let url = format!("https://localhost:{}/ssh-key/rsync_xds.pub", hub.address.port());
    fetch::get(&url.parse().unwrap(), &Trust::File(pinned.clone()), fetch::SMALL).unwrap();

    // Another hub's is none of them.
    let other = tempfile::tempdir().unwrap();
    own(other.path(), &["localhost"]).server_config(SystemTime::now()).unwrap();
    let other = Trust::File(other.path().join("hub/certificate.pem"));
    let error = fetch::get(&url.parse().unwrap(), &other, fetch::SMALL).unwrap_err();
    assert!(error.is::<fetch::Untrusted>(), "{error:#}");
    hub.end();
}

/// Of a node whose clock is slow.
#[test]
fn a_certificate_that_does_not_hold_yet_is_told_with_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    own(dir.path(), &["localhost", "127.0.0.1"]).server_config(SystemTime::now() + 30 * DAY).unwrap();
    let hub = Hub::in_dir(dir);
    let error = hub.get("/ssh-key/rsync_xds.pub").unwrap_err();
    let told = format!("{error:#}");
    assert!(
        !error.is::<fetch::Untrusted>() && told.contains("does not hold by the clock of this host"),
        "{told}"
    );
    hub.end();
}

/// What is left of it after a power cut, say.
#[test]
fn an_authority_that_is_damaged_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    for name in ["authority.pem", "authority-key.pem"] {
        own(dir.path(), &["localhost"]).server_config(now).unwrap();
        let before = fs::read(dir.path().join("hub/authority.pem")).unwrap();
        fs::write(dir.path().join("hub").join(name), "damaged").unwrap();
        own(dir.path(), &["localhost"]).server_config(now + 350 * DAY).unwrap();
        assert_ne!(fs::read(dir.path().join("hub/authority.pem")).unwrap(), before, "{name}");
    }
}

#[test]
fn a_given_certificate_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let given = Certificate::Given {
        certificate: dir.path().join("certificate.pem"),
        key: dir.path().join("key.pem"),
    };
    fs::write(dir.path().join("certificate.pem"), "").unwrap();
    let error = format!("{:#}", given.server_config(SystemTime::now()).unwrap_err());
    assert!(error.contains("certificate.pem"), "{error}");
    assert!(!dir.path().join("key.pem").exists());
    own(dir.path(), &["main"]).server_config(SystemTime::now()).unwrap();
    for name in ["certificate.pem", "key.pem"] {
        fs::copy(dir.path().join("hub").join(name), dir.path().join(name)).unwrap();
    }
    given.server_config(SystemTime::now() + 1000 * DAY).unwrap();
}

#[test]
fn a_certificate_has_every_name_once() {
    let any = "0.0.0.0".parse().unwrap();
    let one = "10.0.0.10".parse().unwrap();
    assert_eq!(certificate::names(&["main", "main"], any), ["main", "localhost"]);
    assert_eq!(certificate::names(&["10.0.0.10", "not a name"], one), ["10.0.0.10", "localhost"]);
}
