//! `[store]`

use std::collections::BTreeMap;

use crate::toml::{Converted, Raw, Reader, text};

/// `[store]`: where Main publishes for nodes that fetch by themselves.
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    /// `file:///DIR`, `s3://BUCKET/PREFIX`, or `exec:PROGRAM`.
    pub url: String,
    /// Where nodes are told of publications, beside the hub: `nats://…`, `tls://…` or `exec:PROGRAM`.
    pub events: Option<String>,
    /// What the service behind the URL needs, by `object_store`'s names.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Options hold credentials.
        f.debug_struct("Store").field("url", &self.url).finish_non_exhaustive()
    }
}

pub(super) fn check(mut reader: Reader<'_>) -> Option<Store> {
    let url = reader.required("url", url);
    let events = reader.optional("events", events);
    let options = reader.table("options").map(|table| table.names(option)).unwrap_or_default();
    reader.finish();
    let options = options.into_iter().map(|(name, value, _)| (name, value)).collect();
    Some(Store { url: url?, events, options })
}

/// Where a store is, as Main has it.
fn url(raw: &Raw) -> Converted<String> {
    url_of(
        raw,
        &["file:///", "s3://", "gs://", "az://", "exec:/"],
        "\"file:///srv/xds-store\" or \"s3://bucket/prefix\"",
    )
}

/// Where a store is, as a node has it: it may be Main's hub.
pub(crate) fn node_url(raw: &Raw) -> Converted<String> {
    let ways = ["https://", "file:///", "s3://", "gs://", "az://", "exec:/"];
    url_of(raw, &ways, "\"https://main:8443/store\" or \"file:///srv/xds-store\"")
}

/// Where publications are told.
pub(crate) fn events(raw: &Raw) -> Converted<String> {
    let expected = "\"nats://10.0.0.1:4222\" or \"exec:/usr/local/bin/helper\"";
    url_of(raw, &["nats://", "tls://", "exec:/"], expected)
}

/// A URL with one of these beginnings, and something behind it. It may hold a password, and is shown to nobody.
fn url_of(raw: &Raw, beginnings: &[&str], expected: &str) -> Converted<String> {
    let url = text(raw)?;
    let is_known = beginnings.iter().any(|begin| url.len() > begin.len() && url.starts_with(begin));
    if is_known && !url.chars().any(char::is_whitespace) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err(format!("expected a URL such as {expected}"))
}

fn option(raw: &Raw) -> Converted<String> {
    match raw {
        Raw::Number(number) => Ok(number.to_string()),
        Raw::Bool(value) => Ok(value.to_string()),
        raw => text(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_known_by_its_scheme() {
        for (read, url, is_one) in [
            (events as fn(&Raw) -> Converted<String>, "nats://10.0.0.1:4222", true),
            (events, "tls://user:secret@broker", true),
            (events, "exec:/usr/local/bin/tell", true),
            (events, "exec:tell", false),
            (events, "nats://", false),
            (events, "http://10.0.0.1", false),
            (events, "nats://user:secret@a b", false),
            (events, "", false),
            (url, "file:///srv/xds-store", true),
            (url, "file://srv", false),
            (url, "s3://bucket/prefix", true),
            (url, "https://main:8443/store", false),
            (node_url, "https://main:8443/store", true),
            (node_url, "http://main:8443/store", false),
        ] {
            let converted = read(&Raw::Text(url.to_owned()));
            assert_eq!(converted.is_ok(), is_one, "{url}");
            assert!(converted.err().is_none_or(|why| !why.contains("secret")), "{url}");
        }
    }
}
