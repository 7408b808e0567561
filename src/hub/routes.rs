//! Paths and their content.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::board::{self, Board};
use super::downloads::{DOWNLOADS, Download};
use super::store::{self, Store};

/// Path of the public key.
pub(crate) const KEY: &str = "/ssh-key/rsync_xds.pub";

/// A public key is a line of some hundred bytes.
const MAX_KEY: u64 = 16 * 1024;

/// What is served.
#[derive(Default)]
pub(crate) struct Content {
    /// Files with the public key; the first that can be read is served, as it is at that moment.
    pub(crate) keys: Vec<PathBuf>,
    /// What is offered for installing.
    pub(crate) downloads: Vec<Download>,
    /// The store, for nodes that follow it.
    pub(crate) store: Option<Store>,
    /// How the cluster is.
    pub(crate) board: Option<Board>,
}

/// The routes of everything there is to serve; GET and HEAD each, but for the store.
pub(crate) fn routes(content: Content) -> Router {
    let keys: Arc<[PathBuf]> = content.keys.into();
    let mut router = Router::new().route(KEY, get(key).with_state(keys));
    for download in content.downloads {
        let path = format!("{DOWNLOADS}/{}", download.name);
        let sum = download.checksum_file();
        let kind = download.kind;
        let content = Bytes::from(download.content);
        router = router
            .route(&format!("{path}.sha256"), get(move || async move { text(sum) }))
            .route(&path, get(move || async move { ([(header::CONTENT_TYPE, kind)], content) }));
    }
    let store = content.store.map(store::routes);
    let board = content.board.map(board::routes);
    store.into_iter().chain(board).fold(router, Router::merge)
}

/// Whether the path is that of a download: large, where the public key is a line.
pub(super) fn is_download(path: &str) -> bool {
    path.starts_with(DOWNLOADS)
}

async fn key(State(keys): State<Arc<[PathBuf]>>) -> Response {
    // Reading a file of one line blocks for less time than handing it to another thread takes.
    match keys.iter().find_map(|path| read_key(path).ok()) {
        Some(key) => text(key),
        None => (StatusCode::NOT_FOUND, "there is no public key yet: run `xds-sync init`\n").into_response(),
    }
}

fn read_key(path: &PathBuf) -> io::Result<String> {
    let mut key = String::new();
    File::open(path)?.take(MAX_KEY).read_to_string(&mut key)?;
    // Never publish a private key, even where one was put in the wrong place.
    if key.contains("PRIVATE KEY") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(key)
}

fn text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], text)
        .into_response()
}
