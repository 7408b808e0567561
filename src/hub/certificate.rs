//! The hub's certificate: configured, or made here and kept.
//!
//! One that is made here is signed by an authority of the hub's own, which stands behind it in the same file. Nodes believe
//! that file: the certificate is made anew within its year, and the authority stays.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
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
    /// Made here, and kept in a directory.
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
/// Of the authority: longer than a hub lives.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Its name. It is told from those of other hubs by its key.
const AUTHORITY: &str = "xds-sync hub";
/// What it signs to see whether it can.
const AUTHORITY_TEST: &str = "localhost";

impl Certificate {
    /// The TLS configuration. A certificate is made when there is none that is valid for long enough.
    pub(crate) fn server_config(&self, now: SystemTime) -> anyhow::Result<Arc<ServerConfig>> {
        match self {
            Certificate::Given { certificate, key } => server_config(certificate, key),
            Certificate::Own { dir, names } => {
                let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
                if !holds(&certificate, names, now + RENEWED) || server_config(&certificate, &key).is_err() {
                    authority(dir, now)
                        .and_then(|authority| make(&certificate, &key, names, &authority, now))
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

/// Whether the certificate that was made here will be valid at `then` for all these names.
fn holds(certificate: &Path, names: &[String], then: SystemTime) -> bool {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match chain.as_deref() {
        Ok([certificate, authority]) => check(certificate, authority, names, then).is_ok(),
        _ => false,
    }
}

/// Fails where who believes an authority does not believe this certificate at `then`, under each of these names.
fn check(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    names: &[String],
    then: SystemTime,
) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    let then = UnixTime::since_unix_epoch(then.duration_since(SystemTime::UNIX_EPOCH)?);
    for name in names {
        let name = ServerName::try_from(name.as_str())?;
        verifier.verify_server_cert(certificate, &[], &name, &[], then)?;
    }
    Ok(())
}

/// What signs the hub's certificates.
struct Authority {
    pem: String,
    key: KeyPair,
}

/// What is the same in each authority.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params
}

/// The authority of this hub. It is made where there is none, or none that can sign for another year.
fn authority(dir: &Path, now: SystemTime) -> anyhow::Result<Authority> {
    let (certificate, key) = (dir.join("authority.pem"), dir.join("authority-key.pem"));
    let kept = || -> anyhow::Result<Authority> {
        let pem = std::fs::read_to_string(&certificate)?;
        let pair = KeyPair::from_pem(&std::fs::read_to_string(&key)?)?;
        let parsed = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let authority = Authority { pem, key: pair };
        // That both fit together, and for how long, shows in what they sign.
        let signed = authority.sign(&[AUTHORITY_TEST.to_owned()], &KeyPair::generate()?, now)?;
        check(signed.der(), &parsed, &[AUTHORITY_TEST.to_owned()], now + LIFE - DAY)?;
        Ok(authority)
    };
    if let Ok(authority) = kept() {
        return Ok(authority);
    }
    let mut params = authority_params();
    params.not_before = OffsetDateTime::from(now - DAY);
    params.not_after = OffsetDateTime::from(now + AUTHORITY_LIFE);
    let pair = KeyPair::generate()?;
    let pem = params.self_signed(&pair)?.pem();
    // If only one of them is written, they do not fit together, and both are made again.
    durable::make_dir(dir, 0o700)?;
    durable::replace(&key, pair.serialize_pem().as_bytes(), Options::PRIVATE)?;
    durable::replace(&certificate, pem.as_bytes(), Options::PRIVATE)?;
    Ok(Authority { pem, key: pair })
}

impl Authority {
    fn sign(&self, names: &[String], pair: &KeyPair, now: SystemTime) -> anyhow::Result<rcgen::Certificate> {
        let Some(first) = names.first() else { bail!("it has no name") };
        let mut params = CertificateParams::new(names.to_vec())?;
        // A node's clock may be slow.
        params.not_before = OffsetDateTime::from(now - DAY);
        params.not_after = OffsetDateTime::from(now + LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, first.as_str());
        Ok(params.signed_by(pair, &Issuer::new(authority_params(), &self.key))?)
    }
}

/// Makes a certificate; the authority stands behind it.
fn make(
    certificate: &Path,
    key: &Path,
    names: &[String],
    authority: &Authority,
    now: SystemTime,
) -> anyhow::Result<()> {
    let pair = KeyPair::generate()?;
    let made = authority.sign(names, &pair, now)?;
    // If only one of them is written, they do not match, and both are made again.
    durable::replace(key, pair.serialize_pem().as_bytes(), Options::PRIVATE)?;
    durable::replace(certificate, (made.pem() + &authority.pem).as_bytes(), Options::PRIVATE)?;
    Ok(())
}

/// The names for a certificate that is made here: each once, without those that a certificate cannot have.
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
