//! Who sees the page and the metrics: who is on this host, and who has the token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::guest::Guest;
use super::token::{Token, TokenFile};

/// What a proxy on this host adds: then somebody else asks, by our loopback.
const OF_PROXIES: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];
/// How long somebody with a wrong token waits, and holds a place that he cannot guess by meanwhile.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

const NO_TOKEN: &str = "This page is for the host itself: no token is configured.\n\
    From elsewhere: ssh -L 8443:127.0.0.1:8443 root@MAIN, then https://127.0.0.1:8443/\n\
    Or write a token into a file that root alone may read, and name it on Main as hub.token_file: docs/monitoring.md\n";
const UNUSABLE: &str = "The token that is configured on Main cannot be used, and the log of its hub says why.\n\
    Until that is mended this page is for the host itself.\n";
const ASKED: &str =
    "Give the token of hub.token_file: as a password with any name, or as Authorization: Bearer TOKEN\n";

/// The way in.
#[derive(Debug)]
pub(crate) struct Door {
    token: Option<TokenFile>,
    /// After a wrong token.
    pause: Duration,
    /// Why the token cannot be used, as it was logged last.
    logged: Mutex<Option<String>>,
}

/// What is decided of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Let,
    /// There is no token that could let it in.
    NoToken,
    /// There is one that cannot be used.
    Unusable,
    /// It has none with it.
    Ask,
    /// It has another one with it.
    Wrong,
}

impl Door {
    pub(crate) fn new(token: Option<TokenFile>, pause: Duration) -> Door {
        Door { token, pause, logged: Mutex::default() }
    }

    /// Whether a token is configured; an error: it cannot be used.
    pub(crate) fn check(&self) -> anyhow::Result<bool> {
        self.token.as_ref().map_or(Ok(false), |file| file.read().map(|_| true))
    }

    /// What a request lacks; `None`: it is let in.
    pub(super) async fn refuse(&self, guest: &Guest, headers: &HeaderMap) -> Option<Response> {
        let is_local = guest.is_local() && !OF_PROXIES.iter().any(|name| headers.contains_key(*name));
        // Nobody on this host needs one.
        let token = if is_local { None } else { self.token.as_ref().map(|file| self.read(file)) };
        let decision = decide(is_local, token, given(headers).as_deref());
        if decision == Decision::Wrong {
            tokio::time::sleep(self.pause).await;
        }
        refusal(decision)
    }

    /// The token; none where it cannot be used, which is logged once for each reason.
    fn read(&self, file: &TokenFile) -> Option<Token> {
        let read = file.read();
        let why = read.as_ref().err().map(|error| format!("hub.token_file: {error:#}"));
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = why.as_ref().filter(|why| logged.as_ref() != Some(why)) {
            log::error!("{why}");
        }
        *logged = why;
        read.ok()
    }
}

/// `token`: none is configured, it cannot be used, or this.
fn decide(is_local: bool, token: Option<Option<Token>>, given: Option<&[u8]>) -> Decision {
    match (is_local, token, given) {
        (true, _, _) => Decision::Let,
        (false, None, _) => Decision::NoToken,
        (false, Some(None), _) => Decision::Unusable,
        (false, Some(Some(_)), None) => Decision::Ask,
        (false, Some(Some(token)), Some(given)) if token.is(given) => Decision::Let,
        (false, Some(Some(_)), Some(_)) => Decision::Wrong,
    }
}

fn refusal(decision: Decision) -> Option<Response> {
    let (code, text) = match decision {
        Decision::Let => return None,
        Decision::NoToken => (StatusCode::FORBIDDEN, NO_TOKEN),
        Decision::Unusable => (StatusCode::FORBIDDEN, UNUSABLE),
        Decision::Ask | Decision::Wrong => (StatusCode::UNAUTHORIZED, ASKED),
    };
    let mut answer = (code, [(header::CACHE_CONTROL, "no-store")], text).into_response();
    if code == StatusCode::UNAUTHORIZED {
        // Browsers ask for name and password then.
        let realm = header::HeaderValue::from_static("Basic realm=\"xds-sync\", charset=\"UTF-8\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    Some(answer)
}

/// The token that a request has with it: `Bearer TOKEN`, or the password of `Basic`.
fn given(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(value.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    decoded.get(colon + 1..).map(<[u8]>::to_vec)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_password() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            // admin:abc, :abc, admin:a:c
            ("Basic YWRtaW46YWJj", Some("abc")),
            ("basic OmFiYw==", Some("abc")),
            ("Basic YWRtaW46YTpj", Some("a:c")),
            // admin
            ("Basic YWRtaW4=", None),
            ("Basic ???", None),
            ("Digest abc", None),
            ("abc", None),
        ] {
            assert_eq!(given(&header(value)).as_deref(), expected.map(str::as_bytes), "{value}");
        }
        assert_eq!(given(&HeaderMap::new()), None);
    }
}
