#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use axum::body::to_bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::durable::sealed;
use crate::hub::guest::Rooms;
use crate::hub::places::Places;
use crate::hub::tests::Hub;
use crate::hub::{Limits, TokenFile};
use crate::model::rfc3339;
use crate::report::NodeState;
use crate::report::samples::{eventful, node, report, started};
use crate::report::status::{Scope, Status};

const TOKEN: &str = "correct-horse-battery-staple";
const LOCAL: &str = "127.0.0.1";
const ELSEWHERE: &str = "10.0.0.9";

fn now() -> SystemTime {
    started() + Duration::from_secs(60)
}

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let site = Site { dir };
        site.token(TOKEN, 0o600);
        let run = eventful();
        let status = Status::default().after(&run, 25, Scope::default());
        site.leave(&Overview::default().after(&run, 25, true).with_status(&status));
        site
    }

    fn leave(&self, overview: &Overview) {
        fs::write(self.dir.path().join("overview.json"), sealed::seal(overview).unwrap()).unwrap();
    }

    fn token(&self, token: &str, mode: u32) {
        let path = self.dir.path().join("token");
        fs::write(&path, token).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn board(&self, has_token: bool) -> Board {
        let token = TokenFile { path: self.dir.path().join("token"), copy: None };
        Board {
            main: "main".to_owned(),
            version: "0.1.0".to_owned(),
            file: self.dir.path().join("overview.json"),
            zone: Zone::of(jiff::tz::TimeZone::UTC),
            clock: now,
            next_run: Box::new(|after| Some(after + Duration::from_secs(900))),
            door: Door::new(has_token.then_some(token), Duration::ZERO),
        }
    }

    /// Asks from an address. Returns the answer's code, its headers and its text.
    fn ask(
        &self,
        has_token: bool,
        path: &str,
        from: &str,
        headers: &[(&str, &str)],
    ) -> (u16, HeaderMap, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers = HeaderMap::from_iter(headers);
        let board = Arc::new(self.board(has_token));
        let ask = if path == PAGE { Board::page } else { Board::metrics };
        runtime.block_on(async {
            let answer = answered(board, &headers, &guest(from), ask).await;
            let (parts, body) = answer.into_parts();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn code(&self, has_token: bool, from: &str, headers: &[(&str, &str)]) -> [u16; 2] {
        [PAGE, METRICS].map(|path| self.ask(has_token, path, from, headers).0)
    }
}

fn guest(address: &str) -> Arc<Guest> {
    let address: IpAddr = address.parse().unwrap();
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let place = Places::new(1).take(address).unwrap();
    Guest::new(address, slot, place, &Rooms::new(1, 1))
}

#[test]
fn who_sees_it() {
    let site = Site::new();
    let bearer = format!("Bearer {TOKEN}");
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("anybody:{TOKEN}")));
    let (right, password) = ([("authorization", &*bearer)], [("authorization", &*basic)]);
    let wrong = [("authorization", "Bearer correct-horse-battery-stapl")];
    let (open, ask, closed) = ([200, 200], [401, 401], [403, 403]);
    for local in [LOCAL, "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        for has_token in [false, true] {
            assert_eq!(site.code(has_token, local, &[]), open, "{local}");
        }
    }
    assert_eq!(site.code(true, LOCAL, &wrong), open, "nobody here needs one");
    for elsewhere in [ELSEWHERE, "2001:db8::1", "::", "::ffff:10.0.0.9"] {
        assert_eq!(site.code(false, elsewhere, &[]), closed, "{elsewhere}");
        assert_eq!(site.code(false, elsewhere, &right), closed, "{elsewhere}");
        assert_eq!(site.code(true, elsewhere, &[]), ask, "{elsewhere}");
        assert_eq!(site.code(true, elsewhere, &wrong), ask, "{elsewhere}");
        assert_eq!(site.code(true, elsewhere, &right), open, "{elsewhere}");
        assert_eq!(site.code(true, elsewhere, &password), open, "{elsewhere}");
    }
    for proxy in ["forwarded", "via", "x-forwarded-for", "x-real-ip"] {
        assert_eq!(site.code(true, LOCAL, &[(proxy, "10.0.0.9")]), ask, "somebody else asks, by a proxy");
    }

    let (_, headers, text) = site.ask(true, PAGE, ELSEWHERE, &[]);
    assert_eq!(headers[header::WWW_AUTHENTICATE], "Basic realm=\"xds-sync\", charset=\"UTF-8\"");
    assert!(!text.contains("mds"), "{text}");
    let (_, _, text) = site.ask(false, PAGE, ELSEWHERE, &[]);
    assert!(text.contains("hub.token_file") && text.contains("ssh -L"), "{text}");
}

#[test]
fn another_token_counts_at_once_and_one_that_is_no_secret_never() {
    let site = Site::new();
    let with = |token: &str| site.code(true, ELSEWHERE, &[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(with(TOKEN), [200, 200]);
    site.token("another-horse-battery-staple", 0o600);
    assert_eq!(with(TOKEN), [401, 401]);
    assert_eq!(with("another-horse-battery-staple"), [200, 200]);
    site.token(TOKEN, 0o644);
    assert_eq!(with(TOKEN), [403, 403]);
    assert!(site.board(true).door.check().unwrap_err().to_string().contains("chmod 600"));
    site.token("", 0o600);
    assert_eq!(with(""), [403, 403]);
    fs::remove_file(site.dir.path().join("token")).unwrap();
    assert_eq!(with(TOKEN), [403, 403]);
}

#[test]
fn the_page_allows_its_own_style_and_nothing_else() {
    let site = Site::new();
    let (code, headers, html) = site.ask(false, PAGE, LOCAL, &[]);
    assert_eq!(code, 200);
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    let style = html.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = BASE64_STANDARD.encode(Sha256::digest(style));
    assert!(policy.starts_with(&format!("default-src 'none'; style-src 'sha256-{hash}';")), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(html.contains("2 of 3 media servers are not in step"), "{html}");
    let (_, headers, text) = site.ask(false, METRICS, LOCAL, &[]);
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("\nxds_sync_node_up{node=\"mds3\"} 0\n"), "{text}");
}

#[test]
fn how_old_it_is_is_reckoned_when_somebody_asks() {
    let site = Site::new();
    let well = report(vec![node("mds1")]);
    let status = Status::default().after(&well, 0, Scope::default());
    let mut overview = Overview::default().after(&well, 0, true).with_status(&status);
    site.leave(&overview);
    let (_, _, html) = site.ask(false, PAGE, LOCAL, &[]);
    assert!(html.contains("<h1>The media server is in step</h1>"), "{html}");
    overview.status.ended = Some(rfc3339(now() - Duration::from_secs(7 * 24 * 3600)));
    site.leave(&overview);
    let (code, _, html) = site.ask(false, PAGE, LOCAL, &[]);
    assert!(code == 200 && html.contains("<header class=\"bad\">") && html.contains("(7d ago)"), "{html}");
    let (_, _, text) = site.ask(false, METRICS, LOCAL, &[]);
    assert!(text.contains("\nxds_sync_status_stale 1\n"), "{text}");
    assert_eq!(overview.status.nodes[0].state, NodeState::Ok);
}

#[test]
fn without_a_status_the_page_says_so_and_metrics_tell_of_the_hub() {
    let site = Site::new();
    let file = site.dir.path().join("overview.json");
    let whole = fs::read(&file).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let tampered = text.replace("mds3", "mds4").into_bytes();
    for (content, expected) in [
        (None, "no run has left its status"),
        (Some(b"".to_vec()), "it is no file of xds-sync"),
        (Some(whole[..whole.len() / 2].to_vec()), "it is no file of xds-sync"),
        (Some(tampered), "its checksum is wrong"),
        (Some(sealed::seal(&["<script>"]).unwrap()), "its content is malformed"),
        (Some(vec![b' '; usize::try_from(LONGEST).unwrap() + 1]), "it is longer than"),
    ] {
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let (code, headers, html) = site.ask(false, PAGE, LOCAL, &[]);
        assert!(
            code == 503 && html.contains(expected) && html.contains("xds-sync sync"),
            "{expected}: {html}"
        );
        assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
        let (code, _, text) = site.ask(false, METRICS, LOCAL, &[]);
        assert_eq!(code, 200);
        assert!(
            text.contains("xds_sync_status_readable 0\n") && text.contains("version=\"0.1.0\""),
            "{text}"
        );
        assert!(!text.contains("node="), "{text}");
    }
}

/// The same over HTTPS, beside everything else that a hub serves.
#[test]
fn a_hub_shows_it_to_its_own_host() {
    let site = Site::new();
    let hub = Hub::showing(Limits::default(), site.board(true));
    let page = String::from_utf8(hub.get(PAGE).unwrap()).unwrap();
    assert!(page.contains("mds3") && page.contains("No route to host"), "{page}");
    assert!(String::from_utf8(hub.get(METRICS).unwrap()).unwrap().starts_with("# HELP xds_sync_"));
    assert!(hub.get(crate::hub::routes::KEY).is_ok());
    assert!(format!("{:#}", hub.get("/metrics/").unwrap_err()).contains("404"));
    hub.end();
}
