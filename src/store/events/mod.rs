//! Telling nodes that something was published, beside the hub: over NATS, or by a program of the administrator's.
//!
//! An event is a hint and nothing more: it only says that it is worth looking. One that is lost, late, doubled or forged costs a
//! look at the store.

mod exec;
mod nats;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::StoreError;

/// Where publications are told: `nats://[USER:PASSWORD@]HOST[:PORT]`, `tls://…`, or `exec:PROGRAM`.
#[derive(Clone, PartialEq, Eq)]
pub struct Events {
    url: String,
    /// A file with certificates to trust beside the system's (PEM).
    ca: Option<PathBuf>,
}

/// What a URL of events may begin with.
const SCHEMES: [&str; 3] = ["nats://", "tls://", "exec:/"];
/// Longest word of a publication that is told.
const MAX_TOLD: usize = 64;

impl Events {
    /// `None`: that is no place where publications can be told.
    #[must_use]
    pub fn at(url: &str, ca: Option<&Path>) -> Option<Events> {
        let is_known = SCHEMES.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
        let is_fine = is_known && !url.chars().any(char::is_whitespace);
        is_fine.then(|| Events { url: url.to_owned(), ca: ca.map(Path::to_owned) })
    }

    /// Tells of a publication, by epoch and number.
    pub fn tell(&self, (epoch, seq): (u64, u64)) -> Result<(), StoreError> {
        let publication = format!("{epoch}.{seq}");
        match self.program() {
            Some(program) => exec::tell(program, &publication),
            None => nats::tell(&self.url, self.ca.as_deref(), &publication),
        }
    }

    /// Calls `hint` for each publication that is told, and once when it begins to listen: what was told before may have been
    /// missed. Returns when `hint` breaks off; `Err`: nothing more is heard.
    pub fn listen(&self, hint: &mut dyn FnMut() -> ControlFlow<()>) -> Result<(), StoreError> {
        match self.program() {
            Some(program) => exec::listen(program, hint),
            None => nats::listen(&self.url, self.ca.as_deref(), hint),
        }
    }

    fn program(&self) -> Option<&str> {
        self.url.strip_prefix("exec:")
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its URL may hold a password.
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_its_scheme() {
        for (url, is_one) in [
            ("nats://10.0.0.1:4222", true),
            ("tls://user:secret@broker", true),
            ("exec:/usr/local/bin/tell", true),
            ("exec:tell", false),
            ("nats://", false),
            ("http://10.0.0.1", false),
            ("nats://a b", false),
            ("", false),
        ] {
            assert_eq!(Events::at(url, None).is_some(), is_one, "{url}");
        }
    }
}
