//! `GET /` and `GET /metrics`: how the cluster is, by what the last run has left here. How old that is, is reckoned when
//! somebody asks.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::door::Door;
use super::guest::Guest;
use crate::durable::sealed;
use crate::model::Zone;
use crate::report::overview::Overview;
use crate::report::page::{self, Seen};
use crate::report::status_text::Reader;
use crate::report::text::{Style, Verbosity};
use crate::report::{metrics, words};

/// Where the page and the metrics are.
const PAGE: &str = "/";
const METRICS: &str = "/metrics";
/// Of the file that runs leave here: some thousand nodes have a few MiB.
const LONGEST: u64 = 64 << 20;

/// When the next run after a moment begins.
type NextRun = Box<dyn Fn(SystemTime) -> Option<SystemTime> + Send + Sync>;

/// What page and metrics are made of.
pub(crate) struct Board {
    /// Main's name.
    pub(crate) main: String,
    /// The hub's own.
    pub(crate) version: String,
    /// What runs leave.
    pub(crate) file: PathBuf,
    pub(crate) zone: Zone,
    pub(crate) clock: fn() -> SystemTime,
    pub(crate) next_run: NextRun,
    /// Who sees it.
    pub(crate) door: Door,
}

/// The routes of a board.
pub(super) fn routes(board: Board) -> Router {
    Router::new().route(PAGE, get(page)).route(METRICS, get(metrics)).with_state(Arc::new(board))
}

async fn page(
    State(board): State<Arc<Board>>,
    headers: HeaderMap,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
) -> Response {
    answered(board, &headers, &guest, Board::page).await
}

async fn metrics(
    State(board): State<Arc<Board>>,
    headers: HeaderMap,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
) -> Response {
    answered(board, &headers, &guest, Board::metrics).await
}

/// What `answer` gives to whoever may see it.
async fn answered(
    board: Arc<Board>,
    headers: &HeaderMap,
    guest: &Guest,
    answer: fn(&Board) -> Response,
) -> Response {
    if let Some(refusal) = board.door.refuse(guest, headers).await {
        return refusal;
    }
    let answered = tokio::task::spawn_blocking(move || answer(&board)).await;
    answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

impl Board {
    fn page(&self) -> Response {
        let now = (self.clock)();
        let style = Style { verbosity: Verbosity::Normal, color: false };
        let reader = Reader { now, zone: &self.zone, style };
        let (code, page) = match self.overview() {
            Ok(Some(overview)) => {
                let is_old = overview.is_old(now, &self.next_run);
                let seen = Seen { main: &self.main, overview: &overview, reader, is_old };
                (StatusCode::OK, page::page(&seen))
            }
            Ok(None) => {
                let why = "no run has left its status for the hub yet";
                let remedy = "the next run does; to have it now, on Main: xds-sync sync";
                (StatusCode::SERVICE_UNAVAILABLE, page::without_status(&self.main, why, remedy, &reader))
            }
            Err(error) => {
                let why = format!("what the last run has left for the hub cannot be used: {error:#}");
                let remedy = "the next run writes it anew; to have it now, on Main: xds-sync sync";
                (StatusCode::SERVICE_UNAVAILABLE, page::without_status(&self.main, &why, remedy, &reader))
            }
        };
        let mut answer = (code, axum::response::Html(page)).into_response();
        harden(answer.headers_mut());
        answer
    }

    fn metrics(&self) -> Response {
        let now = (self.clock)();
        // What the hub knows of itself is told in any case.
        let overview = self.overview().ok().flatten();
        let known = overview.as_ref().map(|overview| (overview, overview.is_old(now, &self.next_run)));
        match metrics::render(&self.version, known) {
            Ok(text) => {
                let headers = [(header::CONTENT_TYPE, metrics::KIND), (header::CACHE_CONTROL, "no-store")];
                (headers, text).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }

    /// What the last run has left; `None`: there was none.
    fn overview(&self) -> anyhow::Result<Option<Overview>> {
        match read(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let bytes = read.context("it cannot be read")?;
                ensure!(bytes.len() as u64 <= LONGEST, "it is longer than {}", words::bytes(LONGEST));
                sealed::open(&bytes).map(Some)
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Allows the page its own style and nothing else, whatever stood in it.
fn harden(headers: &mut HeaderMap) {
    let style = BASE64_STANDARD.encode(Sha256::digest(page::STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    // Base64 is always a header's value.
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests;
