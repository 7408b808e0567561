//! The HTTPS server: how many connections, for how long, and how large a request may be.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;
use super::guest::{Guest, Rooms};
use super::metered::{Metered, too_slow};
use super::places::{Places, client_of};
use super::routes::is_download;

/// How much clients may use, each and all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections at once; further ones wait.
    pub(crate) connections: usize,
    /// How many of them one client may have; further ones are closed.
    pub(crate) per_client: usize,
    /// How many of them may be downloads; further ones are told to come again. The rest is for the public key, which
    /// nodes must get while others download.
    pub(crate) downloads: usize,
    /// Connections of nodes that have shown their pass, beside all others.
    pub(crate) members: usize,
    /// How many of them one node may have: it waits on one, and fetches on the others.
    pub(crate) per_member: usize,
    /// For the TLS handshake, and again for the request's head.
    pub(crate) handshake_timeout: Duration,
    /// For a whole connection of a stranger: a download over a slow line takes minutes.
    pub(crate) connection: Duration,
    /// Bytes that a client must take within `window`, until it has its answer. Slower ones are cut off.
    pub(crate) least: u64,
    /// See `least`.
    pub(crate) window: Duration,
    /// Bytes of the request's head.
    pub(crate) head: usize,
    /// How long open connections may go on after the service was told to stop.
    pub(crate) shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 64,
            per_client: 8,
            downloads: 48,
            // Each waits for publications, and has some more while it fetches one.
            members: 2000,
            per_member: 40,
            handshake_timeout: Duration::from_secs(10),
            connection: Duration::from_secs(600),
            // At less than 16 KiB/s the program would not arrive within the time of a connection anyway.
            least: 30 * 16 * 1024,
            window: Duration::from_secs(30),
            head: 16 * 1024,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

/// How often the certificate is read again: it may have been renewed, or be due for renewal.
const RENEWAL: Duration = Duration::from_secs(3600);
/// What the kernel may keep of an answer that the client has not taken. Without a bound it would be so much that a client
/// who takes nothing looks for minutes as if it took something.
const SEND_BUFFER: usize = 128 * 1024;
/// How long to wait after an error of accept(2), such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound service.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    certificate: Certificate,
    limits: Limits,
}

impl Server {
    /// Binds the address.
    pub(crate) fn bind(
        listen: SocketAddr,
        certificate: Certificate,
        limits: Limits,
    ) -> anyhow::Result<Server> {
        let listener = match TcpListener::bind(listen) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                "another program listens on {listen}; `ss -ltnp 'sport = :{}'` says which; name another port with \
                 --listen or hub.listen",
                listen.port()
            ),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => bail!(
                "{listen} is no address of this host; `ip address` says which are; name one with --listen or hub.listen"
            ),
            Err(error) => return Err(error).with_context(|| format!("listening on {listen}")),
        };
        listener.set_nonblocking(true)?;
        Ok(Server { listener, certificate, limits })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until SIGTERM or SIGINT. `clock` decides when certificates are renewed, `report` takes what goes
    /// wrong meanwhile, `ready` is called once when connections are accepted.
    pub(crate) fn run(
        self,
        routes: Router,
        clock: fn() -> SystemTime,
        report: impl Fn(&str),
        ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("hub")
            .enable_all()
            .build()
            .context("starting the hub's runtime")?;
        let signals = async {
            let mut term = signal(SignalKind::terminate()).context("waiting for signals")?;
            let mut int = signal(SignalKind::interrupt()).context("waiting for signals")?;
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            Ok(())
        };
        let served = runtime.block_on(self.serve(routes, clock, report, ready, signals));
        // Connections that are still open end now.
        runtime.shutdown_background();
        served
    }

    /// Serves until `end`.
    pub(super) async fn serve(
        self,
        routes: Router,
        clock: fn() -> SystemTime,
        report: impl Fn(&str),
        ready: impl FnOnce(),
        end: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let limits = self.limits;
        let listener = tokio::net::TcpListener::from_std(self.listener).context("listening")?;
        let mut acceptor = TlsAcceptor::from(self.certificate.server_config(clock())?);
        let mut renewal = tokio::time::interval(RENEWAL);
        let mut end = std::pin::pin!(end);
        let slots = Arc::new(Semaphore::new(limits.connections));
        let downloads = Arc::new(Semaphore::new(limits.downloads));
        let rooms = Rooms::new(limits.members, limits.per_member);
        let places = Places::new(limits.per_client);
        let mut connections = JoinSet::new();
        renewal.tick().await;
        ready();
        let ended = loop {
            let next = async {
                // Cannot fail: the semaphore is never closed.
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            tokio::select! {
                ended = &mut end => break ended,
                _ = renewal.tick() => match self.certificate.server_config(clock()) {
                    Ok(config) => acceptor = TlsAcceptor::from(config),
                    Err(error) => report(&format!("the certificate stays as it was: {error:#}")),
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (slot, accepted) = next => match accepted {
                    Ok((stream, address)) => {
                        // A client that has all its places already is hung up on: it may not wait in those of others.
                        let Some(place) = places.take(client_of(address.ip())) else { continue };
                        // Cannot fail: see above.
                        let Ok(slot) = slot else { continue };
                        let guest = Guest::new(address.ip(), slot, place, &rooms);
                        let service = (routes.clone(), Arc::clone(&downloads), Arc::clone(&guest));
                        let answered = answer(stream, acceptor.clone(), service, limits);
                        connections.spawn(async move {
                            // Errors of a client that is too slow or speaks nonsense are not reported.
                            tokio::select! {
                                _ = answered => {}
                                () = too_long(&guest, limits.connection) => {}
                            }
                        });
                    }
                    Err(error) => {
                        report(&format!("cannot accept a connection: {error}"));
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        };
        drop(listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limits.shutdown_grace, rest).await;
        ended
    }
}

/// Ends when a stranger's connection has lasted long enough.
async fn too_long(guest: &Guest, longest: Duration) {
    tokio::time::sleep(longest).await;
    if guest.is_member() {
        std::future::pending::<()>().await;
    }
}

/// One connection: a handshake, a request and its answer; of a node, any number of them.
async fn answer(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    (routes, downloads, guest): (Router, Arc<Semaphore>, Arc<Guest>),
    limits: Limits,
) -> Option<()> {
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER).ok()?;
    let (stream, written) = Metered::new(stream);
    let tls = tokio::time::timeout(limits.handshake_timeout, acceptor.accept(stream)).await.ok()?.ok()?;
    // Held until the connection ends: what a download has not sent yet is in the connection's buffers.
    let download = Mutex::new(None);
    let router = TowerToHyperService::new(routes);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&guest));
        let permit = match is_download(request.uri().path()) {
            true => Arc::clone(&downloads).try_acquire_owned().map(Some),
            false => Ok(None),
        };
        let (router, download, guest) = (&router, &download, &guest);
        async move {
            match permit {
                Ok(permit) => {
                    *download.lock().unwrap_or_else(PoisonError::into_inner) = permit;
                    let answer: Result<Response, _> = router.call(request).await;
                    answer.map(|answer| if guest.is_member() { answer } else { last(answer) })
                }
                Err(_) => Ok(last(BUSY.into_response())),
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(limits.head)
        .serve_connection(TokioIo::new(tls), service);
    tokio::select! {
        served = served => served.ok(),
        () = too_slow(written, &guest, limits.least, limits.window) => None,
    }
}

/// The last answer of its connection: a stranger that is idle must not hold a place.
fn last(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The answer when as many download as may.
const BUSY: (StatusCode, [(HeaderName, &str); 1], &str) =
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], "too many download: try again soon\n");
