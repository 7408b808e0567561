//! The hub's certificate: configured, or self-signed and kept.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{RootCertStore, ServerConfig};
use time::OffsetDateTime;

use crate::durable::{self, Options};

/// Which certificate is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// From files (PEM) that the administrator maintains.
    Given {
        /// The certificate chain.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Self-signed, and kept in a directory.
    Own {
        /// Readable for this process only.
        dir: PathBuf,
        /// The names by which it is reached: host names and addresses.
        names: Vec<String>,
    },
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest validity that browsers accept.
const LIFE: Duration = Duration::from_secs(398 * 24 * 3600);
/// A new certificate is made when less validity than this is left.
const RENEWED: Duration = Duration::from_secs(60 * 24 * 3600);

impl Certificate {
    /// The TLS configuration. A self-signed certificate is made when there is none that is valid for long enough.
    pub(crate) fn server_config(&self, now: SystemTime) -> anyhow::Result<Arc<ServerConfig>> {
        match self {
            Certificate::Given { certificate, key } => server_config(certificate, key),
            Certificate::Own { dir, names } => {
                let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
                if !holds(&certificate, names, now + RENEWED) || server_config(&certificate, &key).is_err() {
                    make(&certificate, &key, names, now)
                        .with_context(|| format!("making a certificate in {}", dir.display()))?;
                }
                server_config(&certificate, &key)
            }
        }
    }
}

fn server_config(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let reading = |path: &Path| format!("reading {}", path.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).with_context(|| reading(certificate))?.collect();
    let chain = chain.with_context(|| reading(certificate))?;
    ensure!(!chain.is_empty(), "there is no certificate in {}", certificate.display());
    let secret = PrivateKeyDer::from_pem_file(key).with_context(|| reading(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("preparing TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("{} and {} do not serve", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether the self-signed certificate will be valid at `then` for all these names.
fn holds(certificate: &Path, names: &[String], then: SystemTime) -> bool {
    let check = || -> anyhow::Result<()> {
        let certificate = CertificateDer::from_pem_file(certificate)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        let then = UnixTime::since_unix_epoch(then.duration_since(SystemTime::UNIX_EPOCH)?);
        for name in names {
            let name = ServerName::try_from(name.as_str())?;
            verifier.verify_server_cert(&certificate, &[], &name, &[], then)?;
        }
        Ok(())
    };
    check().is_ok()
}

fn make(certificate: &Path, key: &Path, names: &[String], now: SystemTime) -> anyhow::Result<()> {
    let Some(first) = names.first() else { bail!("it has no name") };
    let mut params = CertificateParams::new(names.to_vec())?;
    // A node's clock may be slow.
    params.not_before = OffsetDateTime::from(now - DAY);
    params.not_after = OffsetDateTime::from(now + LIFE);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    let pair = KeyPair::generate()?;
    let made = params.self_signed(&pair)?;
    // If only one of them is written, they do not match, and both are made again.
    durable::make_dir(key.parent().unwrap_or(Path::new("/")), 0o700)?;
    durable::replace(key, pair.serialize_pem().as_bytes(), Options::PRIVATE)?;
    durable::replace(certificate, made.pem().as_bytes(), Options::PRIVATE)?;
    Ok(())
}

/// The names for a self-signed certificate: each once, without those that a certificate cannot have.
#[must_use]
pub(crate) fn names(hosts: &[&str], listen: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let listen = if listen.is_unspecified() { None } else { Some(listen.to_string()) };
    for name in hosts.iter().copied().map(str::to_owned).chain(listen).chain(["localhost".to_owned()]) {
        if ServerName::try_from(name.as_str()).is_ok() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
