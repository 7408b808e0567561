//! Connections: how many, how long, how large.

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

/// What one caller, and all of them, may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; who comes then waits.
    pub connections: usize,
    /// For the TLS handshake, and again for the request's head.
    pub greeting: Duration,
    /// For a whole connection: a download over a slow line takes minutes.
    pub connection: Duration,
    /// Bytes of the request's head.
    pub head: usize,
    /// What connections have left when the service is told to end.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 64,
            greeting: Duration::from_secs(10),
            connection: Duration::from_secs(600),
            head: 16 * 1024,
            farewell: Duration::from_secs(3),
        }
    }
}

/// How often the certificate is looked at again: it may have been renewed, or be due to.
const RENEWAL: Duration = Duration::from_secs(3600);
/// After an error of accept(2), such as too many open files, which passes.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound service.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    certificate: Certificate,
    limits: Limits,
}

impl Server {
    /// Takes the address.
    pub fn bind(listen: SocketAddr, certificate: Certificate, limits: Limits) -> anyhow::Result<Server> {
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
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until SIGTERM or SIGINT. `clock` says when certificates are to be renewed, `tell` is told what
    /// goes wrong meanwhile, `ready` is called once when callers are let in.
    pub fn run(
        self,
        routes: Router,
        clock: fn() -> SystemTime,
        tell: impl Fn(&str),
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
        let served = runtime.block_on(self.serve(routes, clock, tell, ready, signals));
        // What did not end in time ends now.
        runtime.shutdown_background();
        served
    }

    /// Serves until `end`.
    pub(super) async fn serve(
        self,
        routes: Router,
        clock: fn() -> SystemTime,
        tell: impl Fn(&str),
        ready: impl FnOnce(),
        end: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let limits = self.limits;
        let listener = tokio::net::TcpListener::from_std(self.listener).context("listening")?;
        let mut acceptor = TlsAcceptor::from(self.certificate.server_config(clock())?);
        let mut renewal = tokio::time::interval(RENEWAL);
        let mut end = std::pin::pin!(end);
        let room = Arc::new(Semaphore::new(limits.connections));
        let mut connections = JoinSet::new();
        renewal.tick().await;
        ready();
        let ended = loop {
            let next = async {
                // Never closed.
                let place = Arc::clone(&room).acquire_owned().await;
                (place, listener.accept().await)
            };
            tokio::select! {
                ended = &mut end => break ended,
                _ = renewal.tick() => match self.certificate.server_config(clock()) {
                    Ok(config) => acceptor = TlsAcceptor::from(config),
                    Err(error) => tell(&format!("the certificate stays as it was: {error:#}")),
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (place, accepted) = next => match accepted {
                    Ok((stream, _)) => {
                        let (acceptor, routes) = (acceptor.clone(), routes.clone());
                        connections.spawn(async move {
                            let _place = place;
                            let answered = answer(stream, acceptor, routes, limits);
                            // Callers that are too slow, or speak nonsense, are their own affair.
                            let _ = tokio::time::timeout(limits.connection, answered).await;
                        });
                    }
                    Err(error) => {
                        tell(&format!("a connection could not be taken: {error}"));
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        };
        drop(listener);
        let farewell = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limits.farewell, farewell).await;
        ended
    }
}

/// One connection: a handshake, a request and its answer.
async fn answer(stream: TcpStream, acceptor: TlsAcceptor, routes: Router, limits: Limits) -> Option<()> {
    let tls = tokio::time::timeout(limits.greeting, acceptor.accept(stream)).await.ok()?.ok()?;
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.greeting)
        .max_buf_size(limits.head)
        // Nobody keeps a place that he does not use.
        .keep_alive(false)
        .serve_connection(TokioIo::new(tls), TowerToHyperService::new(routes))
        .await
        .ok()
}
