//! What a PostgreSQL URL says, in libpq's words.

use std::path::PathBuf;

use tokio_postgres::config::SslMode;

/// Where Debian's PostgreSQL has its socket: what a URL without a host means there.
const SOCKETS: &str = "/var/run/postgresql";

/// How to reach a database.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// Host, user, database and so on.
    pub to: tokio_postgres::Config,
    /// Which certificates are trusted.
    pub trust: TlsTrust,
}

/// Who says that a database server's certificate is right, where TLS is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsTrust {
    /// Nobody, as libpq has it unless asked otherwise: only who listens is kept out.
    Anybody,
    /// This system's certificate authorities.
    System,
    /// A certificate in this file (PEM).
    File(PathBuf),
}

impl Connection {
    /// Reads a URL, or libpq's `key=value` words. What is wrong is told without what stands there: it may be a
    /// password.
    pub(super) fn parse(url: &str) -> Result<Connection, String> {
        let (mut mode, mut file, mut kept) = (None, None, Vec::new());
        let (place, parameters) = split(url);
        for parameter in parameters {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => file = Some(value),
                _ => kept.push(parameter),
            }
        }
        let rest = if kept.is_empty() { place.to_owned() } else { format!("{place}?{}", kept.join("&")) };
        let mut to: tokio_postgres::Config = rest.parse().map_err(|error| explained(&error))?;
        let certificate = match file {
            None | Some("system") => TlsTrust::System,
            Some(file) if file.starts_with('/') => TlsTrust::File(file.into()),
            Some(_) => return Err("expected sslrootcert=system or an absolute path".to_owned()),
        };
        let trust = match mode {
            // The key=value words have it among them.
            None if !url.contains("://") => TlsTrust::Anybody,
            None | Some("prefer") => {
                to.ssl_mode(SslMode::Prefer);
                TlsTrust::Anybody
            }
            Some("disable") => {
                to.ssl_mode(SslMode::Disable);
                TlsTrust::Anybody
            }
            Some("require") if file.is_none() => {
                to.ssl_mode(SslMode::Require);
                TlsTrust::Anybody
            }
            Some("require" | "verify-full") => {
                to.ssl_mode(SslMode::Require);
                certificate
            }
            Some(_) => {
                let known = "disable, prefer, require or verify-full";
                return Err(format!("expected an sslmode of {known}"));
            }
        };
        if to.get_hosts().is_empty() && to.get_hostaddrs().is_empty() {
            to.host_path(SOCKETS);
        }
        if to.get_application_name().is_none() {
            to.application_name("xds-sync");
        }
        Ok(Connection { to, trust })
    }
}

/// A URL up to its parameters, and those. A password may hold a '?' itself: what is before '@' is no parameter.
fn split(url: &str) -> (&str, Vec<&str>) {
    let from = match url.contains("://") {
        true => url.find('@').unwrap_or_default(),
        false => url.len(),
    };
    match url[from..].split_once('?') {
        Some((before, parameters)) => (&url[..from + before.len()], parameters.split('&').collect()),
        None => (url, Vec::new()),
    }
}

fn explained(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    #[test]
    fn a_url_says_what_libpq_takes_it_for() {
        let socket = Host::Unix(SOCKETS.into());
        let file = || TlsTrust::File("/etc/ca.pem".into());
        for (url, host, mode, trust) in [
            ("postgresql:///asterisk", socket.clone(), SslMode::Prefer, TlsTrust::Anybody),
            (
                "postgresql:///asterisk?host=/run/x",
                Host::Unix("/run/x".into()),
                SslMode::Prefer,
                TlsTrust::Anybody,
            ),
            ("postgresql://u:p@db/x", Host::Tcp("db".into()), SslMode::Prefer, TlsTrust::Anybody),
            ("postgresql://u:p?sslmode=x@db/x", Host::Tcp("db".into()), SslMode::Prefer, TlsTrust::Anybody),
            (
                "postgresql://db/x?sslmode=disable",
                Host::Tcp("db".into()),
                SslMode::Disable,
                TlsTrust::Anybody,
            ),
            (
                "postgresql://db/x?sslmode=require",
                Host::Tcp("db".into()),
                SslMode::Require,
                TlsTrust::Anybody,
            ),
            (
                "postgresql://db/x?sslmode=require&sslrootcert=/etc/ca.pem",
                Host::Tcp("db".into()),
                SslMode::Require,
                file(),
            ),
            (
                "postgresql://db/x?sslrootcert=/etc/ca.pem&user=u&sslmode=verify-full",
                Host::Tcp("db".into()),
                SslMode::Require,
                file(),
            ),
            (
                "postgresql://db/x?sslmode=verify-full",
                Host::Tcp("db".into()),
                SslMode::Require,
                TlsTrust::System,
            ),
            ("host=db sslmode=require", Host::Tcp("db".into()), SslMode::Require, TlsTrust::Anybody),
            ("dbname=asterisk", socket, SslMode::Prefer, TlsTrust::Anybody),
        ] {
            let connection = Connection::parse(url).unwrap();
            assert_eq!(connection.to.get_hosts(), [host], "{url}");
            assert_eq!((connection.to.get_ssl_mode(), connection.trust), (mode, trust), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_what_stands_there() {
        for (url, expected) in [
            ("postgresql://u:secret@db:none/x", "port"),
            ("postgresql://u:secret@db/x?sslmode=verify-ca", "sslmode"),
            ("postgresql://u:secret@db/x?sslmode=verify-full&sslrootcert=ca", "sslrootcert"),
            ("postgresql://u:secret@db/x?colour=secret", "colour"),
        ] {
            let error = Connection::parse(url).err().unwrap();
            assert!(error.contains(expected) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
