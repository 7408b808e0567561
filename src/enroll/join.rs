//! Joining, on the node: fetches Main's key from Main's web server, and writes the file that says what Main may do.

use std::io;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use ssh_key::public::KeyData;
use ssh_key::{Fingerprint, HashAlg, PublicKey};

use crate::config::is_host;
use crate::durable::{self, Options};
use crate::fetch::{self, Limits, Trust};
use crate::model::escape::escape_for_people;

/// Path at which a Main publishes its key.
pub(crate) const PATH: &str = "/ssh-key/rsync_xds.pub";
/// A node's file as it is made: the built-in values.
const NODE_FILE: &str = include_str!("../../docs/node.example.toml");

/// Shorter RSA keys can be factored, and sshd refuses the shortest ones itself.
const MIN_RSA_BITS: usize = 2048;
/// Most bytes of an unexpected answer that are quoted.
const QUOTED: usize = 60;

/// A Main as an administrator named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Main {
    /// Where its key is.
    pub(crate) url: Url,
    /// HOST, or HOST:PORT where a port was given.
    pub(crate) name: String,
}

impl Main {
    /// From HOST, HOST:PORT or an https URL; without a path, the usual one.
    pub(crate) fn parse(typed: &str) -> anyhow::Result<Main> {
        let shown = escape_for_people(typed.as_bytes());
        let is_ipv6 = typed.parse::<std::net::Ipv6Addr>().is_ok();
        let text = match typed.split_once("://") {
            Some(("https", _)) => typed.to_owned(),
            Some(_) => bail!("{shown} is not https, and so could be anybody's"),
            None if is_ipv6 => format!("https://[{typed}]"),
            None => {
                let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
                ensure!(typed.chars().all(plain), "{shown} is no HOST, HOST:PORT or https URL");
                format!("https://{typed}")
            }
        };
        let mut url =
            Url::parse(&text).with_context(|| format!("{shown} is no HOST, HOST:PORT or https URL"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        ensure!(is_host(bare) && is_plain, "{shown} is no HOST, HOST:PORT or https URL");
        let name = url.port().map_or_else(|| bare.to_owned(), |port| format!("{host}:{port}"));
        if url.path() == "/" {
            url.set_path(PATH);
        }
        Ok(Main { url, name })
    }
}

impl Main {
    /// The host alone, without brackets.
    pub(crate) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_matches(['[', ']']).to_owned()
    }
}

/// Main's key, as its web server gives it; with `expected` only that one.
pub(crate) fn fetch_key(
    main: &Main,
    trust: &Trust,
    expected: Option<&Fingerprint>,
    limits: Limits,
) -> anyhow::Result<PublicKey> {
    let from = main.url.to_string();
    let answer = fetch::get(&main.url, trust, limits).with_context(|| from.clone())?;
    check_key(&from, &answer, expected)
}

/// Main's key in an answer of `from`; with `expected` only that one.
pub(crate) fn check_key(
    from: &str,
    answer: &[u8],
    expected: Option<&Fingerprint>,
) -> anyhow::Result<PublicKey> {
    let key = read_key(answer).with_context(|| from.to_owned())?;
    let found = key.fingerprint(HashAlg::Sha256);
    match expected {
        Some(expected) if *expected != found => bail!(
            "{from}: its key has the fingerprint {found}, expected was {expected}; `xds-sync init` on Main prints \
             the right one, and if that is another than this, somebody is between you and Main"
        ),
        _ => Ok(key),
    }
}

/// A fingerprint as `xds-sync init` and `ssh-keygen -l` print it.
pub fn read_fingerprint(typed: &str) -> anyhow::Result<Fingerprint> {
    let shown = escape_for_people(typed.as_bytes());
    let parsed = typed.strip_prefix("SHA256:").and_then(|_| typed.parse().ok());
    parsed.with_context(|| format!("{shown} is no fingerprint: `xds-sync init` on Main prints it, SHA256:…"))
}

/// Reads exactly one public key without options, of a safe algorithm.
pub fn read_key(answer: &[u8]) -> anyhow::Result<PublicKey> {
    let text = answer.trim_ascii();
    let first = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let quoted = quoted(first);
    ensure!(
        !text.is_empty(),
        "the answer is empty where Main's public key was due; run `xds-sync init` on Main again"
    );
    // Never quote a secret.
    ensure!(
        !is_private_key(text),
        "the answer is a PRIVATE key, which everybody can read there: take it off Main's web server, remove its \
         public key from every node, and make a new one"
    );
    ensure!(
        !text.starts_with(b"<"),
        "the answer is a web page, no public key: {quoted}; is the key published there? `xds-sync init` on Main \
         says where"
    );
    ensure!(
        first.len() == text.len(),
        "the answer has several lines, where exactly one public key was due: {quoted}"
    );
    let line = std::str::from_utf8(first).ok();
    let Some(key) = line.and_then(|line| PublicKey::from_openssh(line).ok()) else {
        let is_behind_options = line.is_some_and(|line| line.contains(" AAAA") && !line.starts_with("ssh-"));
        let advice = "`xds-sync init` on Main says where its key is published";
        if is_behind_options {
            bail!("the answer is a public key with options, or of an unknown kind: {quoted}; {advice}");
        }
        bail!("the answer is no public key: {quoted}; {advice}");
    };
    check_kind(&key)?;
    Ok(key)
}

/// Whether a key is of a safe algorithm and length.
pub(super) fn check_kind(key: &PublicKey) -> anyhow::Result<()> {
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let modulus = rsa.n.as_positive_bytes().unwrap_or_default();
            let unused = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
            let bits = modulus.len() * 8 - unused;
            ensure!(
                bits >= MIN_RSA_BITS,
                "Main's key is RSA with {bits} bits; it takes {MIN_RSA_BITS}: make Main a new key"
            );
            Ok(())
        }
        _ => bail!("Main's key is of the kind {}: make Main an ed25519 key", key.algorithm()),
    }
}

/// Whether this is a private key, in PEM, OpenSSH's or PuTTY's format.
fn is_private_key(bytes: &[u8]) -> bool {
    let marks = [b"PRIVATE KEY-----".as_slice(), b"PuTTY-User-Key-File"];
    marks.iter().any(|mark| bytes.windows(mark.len()).any(|window| window == *mark))
}

fn quoted(line: &[u8]) -> String {
    let cut = line.get(..QUOTED);
    format!("'{}{}'", escape_for_people(cut.unwrap_or(line)), if cut.is_some() { "…" } else { "" })
}

/// Writes the file that says what Main may do on this node, with the built-in values, unless there is one. Says
/// whether it did.
pub(crate) fn make_node_file(path: &Path) -> anyhow::Result<bool> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let made = durable::make_dir(dir, 0o755)
        .and_then(|()| durable::create(path, NODE_FILE.as_bytes(), Options::PUBLIC));
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("writing {}", path.display())),
    }
}

#[cfg(test)]
mod tests;
