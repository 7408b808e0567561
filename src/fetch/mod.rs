//! A small file over HTTPS, from a host that is not trusted yet.

#[cfg(test)]
pub(crate) mod test_tls;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::blocking::{Client, ClientBuilder};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Which servers are believed to be who they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those that this system's certificate authorities vouch for.
    System,
    /// Those that a certificate in this file (PEM) vouches for, or that have it.
    File(PathBuf),
    /// Anybody: what is fetched is checked by other means.
    Anybody,
}

/// How long and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Until the server has taken the connection.
    pub(crate) connect: Duration,
    /// For everything, redirects too.
    pub(crate) total: Duration,
    /// Bytes of the answer.
    pub(crate) body: u64,
}

/// For a file of one line, and a server in the same network.
pub(crate) const SMALL: Limits =
    Limits { connect: Duration::from_secs(10), total: Duration::from_secs(20), body: 16 * 1024 };

/// From HOST to www.HOST, and from there to where the file is; who needs more is sending us in circles.
const MAX_REDIRECTS: usize = 3;

/// What the server at `url` answers with; https alone, also where it sends us on to.
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
    within(limits, client, url.clone(), trust)
}

/// What the server at `url`, https or not, answers with to these headers, which are for it and nobody else.
pub(crate) fn get_with(
    url: &Url,
    headers: HeaderMap,
    trust: &Trust,
    limits: Limits,
) -> anyhow::Result<Vec<u8>> {
    let redirects = Policy::custom(|attempt| {
        let to = attempt.url();
        if attempt.previous().first().is_none_or(|first| first.origin() != to.origin()) {
            // What else is in it may be a secret.
            let to = to.origin().ascii_serialization();
            attempt.error(format!("it sends us on to {to}; if that is right, write that address instead"))
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("it sends us on and on")
        } else {
            attempt.follow()
        }
    });
    let client = Client::builder().default_headers(headers).redirect(redirects);
    within(limits, client, url.clone(), trust)
}

fn within(limits: Limits, client: ClientBuilder, url: Url, trust: &Trust) -> anyhow::Result<Vec<u8>> {
    let client = client
        .tls_backend_preconfigured(tls(trust)?)
        // Main is near. A proxy for the web would be asked for its certificate instead.
        .no_proxy()
        // Where it sends us on, the server may be closing that connection already.
        .pool_max_idle_per_host(0)
        .connect_timeout(limits.connect)
        .timeout(limits.total);
    let (sender, receiver) = mpsc::channel();
    // A server that sends a byte now and then keeps every timeout of the client happy, but not this one.
    std::thread::Builder::new()
        .name("fetch".to_owned())
        .spawn(move || sender.send(ask(client, url, limits.body)))
        .context("starting a thread")?;
    match receiver.recv_timeout(limits.total) {
        Ok(answer) => answer,
        Err(_) => bail!("there was no whole answer within {:?}", limits.total),
    }
}

fn ask(client: ClientBuilder, url: Url, most: u64) -> anyhow::Result<Vec<u8>> {
    let client = client.build().context("preparing the request")?;
    let answer = client.get(url).send().map_err(explained)?;
    if answer.status() != StatusCode::OK {
        bail!("the server answers {}", answer.status());
    }
    let mut body = Vec::new();
    answer.take(most + 1).read_to_end(&mut body).context("reading the answer")?;
    ensure!(body.len() as u64 <= most, "the answer has more than {most} bytes");
    Ok(body)
}

/// The server's certificate is not trusted; the caller knows what may be done about that.
#[derive(Debug)]
pub(crate) struct Untrusted(String);

impl std::fmt::Display for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its certificate is not trusted: {}", self.0)
    }
}

impl std::error::Error for Untrusted {}

/// What really went wrong: the client wraps it several times.
fn explained(error: reqwest::Error) -> anyhow::Error {
    // It may hold secrets; the caller knows what can be told of it.
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(why)) = innermost.downcast_ref() {
            return Untrusted(why.to_string()).into();
        }
        let wrapped = innermost.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        innermost = match (wrapped, innermost.source()) {
            (Some(wrapped), _) => wrapped,
            (None, Some(source)) => source,
            (None, None) => break,
        };
    }
    if error.is_timeout() {
        return anyhow!("there was no answer in time");
    }
    anyhow!("{innermost}")
}

/// How to speak TLS with servers that are believed so.
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

/// Without any, no certificate is trusted, and the message says so.
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

/// Takes every certificate, from whoever has its key.
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
