//! Fetches a small file over HTTPS, from a host that is not trusted yet.

#[cfg(test)]
pub(crate) mod test_tls;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Which server certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those signed by an authority of this system.
    System,
    /// Those in this file (PEM), or signed by one in it.
    File(PathBuf),
    /// Any: the content is verified by other means.
    Anybody,
}

/// Bounds of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For connecting.
    pub(crate) connect: Duration,
    /// For the whole request, redirects included.
    pub(crate) total: Duration,
    /// Bytes of the response.
    pub(crate) body: u64,
}

/// For a file of one line, and a server in the same network.
pub(crate) const SMALL: Limits =
    Limits { connect: Duration::from_secs(10), total: Duration::from_secs(20), body: 16 * 1024 };

/// From HOST to www.HOST, and from there to the file; more are taken for a loop.
const MAX_REDIRECTS: usize = 3;

/// The response of the server at `url`; https only, for redirects too.
pub(crate) fn get(url: &Url, trust: &Trust, limits: Limits) -> anyhow::Result<Vec<u8>> {
    ensure!(url.scheme() == "https", "{url} is not https");
    let redirects = Policy::custom(|attempt| {
        if attempt.url().scheme() != "https" {
            let to = attempt.url().clone();
            attempt.error(format!("it sends us on to {to}, which is not https"))
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("it sends us on and on")
        } else {
            attempt.follow()
        }
    });
    let client = Client::builder().https_only(true).redirect(redirects);
    let (url, most) = (url.clone(), limits.body);
    within(limits, client, trust, move |client| ask(&client, url, most))
}

/// The response of the server at `url`, https or not, to a request with these headers. They may be secrets, so
/// redirects to another server are refused.
pub(crate) fn get_with(
    url: &Url,
    headers: HeaderMap,
    trust: &Trust,
    limits: Limits,
) -> anyhow::Result<Vec<u8>> {
    let redirects = Policy::custom(|attempt| {
        let to = attempt.url();
        if attempt.previous().first().is_none_or(|first| first.origin() != to.origin()) {
            // The rest of the URL may be a secret.
            let to = to.origin().ascii_serialization();
            attempt.error(format!("it sends us on to {to}; if that is right, write that address instead"))
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("it sends us on and on")
        } else {
            attempt.follow()
        }
    });
    let client = Client::builder().default_headers(headers).redirect(redirects);
    let (url, most) = (url.clone(), limits.body);
    within(limits, client, trust, move |client| ask(&client, url, most))
}

/// Sends `body` to the server at `url`, https only, and returns what it answers with, whatever that is.
pub(crate) fn post(
    url: &Url,
    body: Vec<u8>,
    trust: &Trust,
    limits: Limits,
) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    ensure!(url.scheme() == "https", "{url} is not https");
    let client = Client::builder().https_only(true).redirect(Policy::none());
    let url = url.clone();
    let most = limits.body;
    within(limits, client, trust, move |client| {
        let answer = client.post(url).body(body).send().map_err(explained)?;
        Ok((answer.status(), body_of(answer, most)?))
    })
}

fn within<T: Send + 'static>(
    limits: Limits,
    client: ClientBuilder,
    trust: &Trust,
    ask: impl FnOnce(Client) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let client = client
        .tls_backend_preconfigured(tls(trust)?)
        // Main is in the same network, and a proxy would present its own certificate.
        .no_proxy()
        // After a redirect the server may be closing the connection already.
        .pool_max_idle_per_host(0)
        .connect_timeout(limits.connect)
        .timeout(limits.total);
    let (sender, receiver) = mpsc::channel();
    // A server that sends a byte now and then resets the timeouts of the client, but not this one.
    std::thread::Builder::new()
        .name("fetch".to_owned())
        .spawn(move || sender.send(client.build().context("preparing the request").and_then(ask)))
        .context("starting a thread")?;
    match receiver.recv_timeout(limits.total) {
        Ok(answer) => answer,
        Err(_) => bail!("there was no whole answer within {:?}", limits.total),
    }
}

fn ask(client: &Client, url: Url, most: u64) -> anyhow::Result<Vec<u8>> {
    let answer = client.get(url).send().map_err(explained)?;
    if answer.status() != StatusCode::OK {
        bail!("the server answers {}", answer.status());
    }
    body_of(answer, most)
}

fn body_of(answer: Response, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    answer.take(most + 1).read_to_end(&mut body).context("reading the answer")?;
    ensure!(body.len() as u64 <= most, "the answer has more than {most} bytes");
    Ok(body)
}

/// The server's certificate is not trusted. The caller knows what to advise.
#[derive(Debug)]
pub(crate) struct Untrusted(String);

impl std::fmt::Display for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its certificate is not trusted: {}", self.0)
    }
}

impl std::error::Error for Untrusted {}

/// The server's certificate is of another time than this host takes it to be: whom to believe is not what it is about.
#[derive(Debug)]
pub(crate) struct NotInTime(String);

impl std::fmt::Display for NotInTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "its certificate does not hold by the clock of this host: {}; set the clock, if it is wrong",
            self.0
        )
    }
}

impl std::error::Error for NotInTime {}

/// Nobody is there at this port. The caller knows what to advise.
#[derive(Debug)]
pub(crate) struct Unanswered(String);

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unanswered {}

/// The innermost cause: reqwest wraps errors several times.
pub(crate) fn explained(error: reqwest::Error) -> anyhow::Error {
    // The URL may hold secrets; the caller knows which part can be shown.
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(why)) = innermost.downcast_ref() {
            use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
            return match why {
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
                    NotInTime(why.to_string()).into()
                }
                why => Untrusted(why.to_string()).into(),
            };
        }
        let wrapped = innermost.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        innermost = match (wrapped, innermost.source()) {
            (Some(wrapped), _) => wrapped,
            (None, Some(source)) => source,
            (None, None) => break,
        };
    }
    let refuses = [io::ErrorKind::ConnectionRefused, io::ErrorKind::HostUnreachable, io::ErrorKind::TimedOut];
    if innermost.downcast_ref::<io::Error>().is_some_and(|io| refuses.contains(&io.kind())) {
        return Unanswered(innermost.to_string()).into();
    }
    if error.is_timeout() && error.is_connect() {
        return Unanswered("there was no answer in time".to_owned()).into();
    }
    if error.is_timeout() {
        return anyhow!("there was no answer in time");
    }
    anyhow!("{innermost}")
}

/// A TLS client that trusts these certificates.
pub(crate) fn tls(trust: &Trust) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("preparing TLS")?;
    Ok(match trust {
        Trust::System => builder.with_root_certificates(system_roots()).with_no_client_auth(),
        Trust::File(file) => builder.with_root_certificates(roots_in(file)?).with_no_client_auth(),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
    })
}

/// Where there are none, no certificate is trusted and the error message says so.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn roots_in(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let reading = || format!("reading {}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).with_context(reading)? {
        roots.add(certificate.with_context(reading)?).with_context(reading)?;
    }
    ensure!(!roots.is_empty(), "there is no certificate in {}", file.display());
    Ok(roots)
}

/// Accepts any certificate whose private key the server has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
