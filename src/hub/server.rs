//! The HTTPS server: how many connections, for how long, and how large a request may be.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificate::Certificate;

/// How much clients may use, each and all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections at once; further ones wait.
    pub(crate) connections: usize,
    /// For the TLS handshake, and again for the request's head.
    pub(crate) handshake_timeout: Duration,
    /// For a whole connection: a download over a slow line takes minutes.
    pub(crate) connection: Duration,
    /// Bytes of the request's head.
    pub(crate) head: usize,
    /// How long open connections may go on after the service was told to stop.
    pub(crate) shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 64,
            handshake_timeout: Duration::from_secs(10),
            connection: Duration::from_secs(600),
            head: 16 * 1024,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

/// How often the certificate is read again: it may have been renewed, or be due for renewal.
const RENEWAL: Duration = Duration::from_secs(3600);
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
                    Ok((stream, _)) => {
                        let (acceptor, routes) = (acceptor.clone(), routes.clone());
                        connections.spawn(async move {
                            let _slot = slot;
                            let answered = answer(stream, acceptor, routes, limits);
                            // Errors of a client that is too slow or speaks nonsense are not reported.
                            let _ = tokio::time::timeout(limits.connection, answered).await;
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

/// One connection: a handshake, a request and its answer.
async fn answer(stream: TcpStream, acceptor: TlsAcceptor, routes: Router, limits: Limits) -> Option<()> {
    let tls = tokio::time::timeout(limits.handshake_timeout, acceptor.accept(stream)).await.ok()?.ok()?;
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(limits.head)
        // An idle client must not hold a slot.
        .keep_alive(false)
        .serve_connection(TokioIo::new(tls), TowerToHyperService::new(routes))
        .await
        .ok()
}
