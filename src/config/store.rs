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

/// What a store's URL may begin with.
const SCHEMES: [&str; 5] = ["file:///", "s3://", "gs://", "az://", "exec:/"];

pub(super) fn check(mut reader: Reader<'_>) -> Option<Store> {
    let url = reader.required("url", url);
    let events = reader.optional("events", events);
    let options = reader.table("options").map(|table| table.names(option)).unwrap_or_default();
    reader.finish();
    let options = options.into_iter().map(|(name, value, _)| (name, value)).collect();
    Some(Store { url: url?, events, options })
}

fn url(raw: &Raw) -> Converted<String> {
    let url = text(raw)?;
    let is_known = SCHEMES.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if is_known && !url.chars().any(char::is_whitespace) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err(format!(
        "expected a URL such as \"file:///srv/xds-store\", \"s3://bucket/prefix\" or \"exec:/usr/local/bin/helper\", \
         found '{url}'"
    ))
}

fn events(raw: &Raw) -> Converted<String> {
    let url = text(raw)?;
    let is_known = ["nats://", "tls://", "exec:/"].iter().any(|scheme| url.starts_with(scheme));
    if is_known {
        Ok(url)
    } else {
        Err(format!("expected a URL such as \"nats://10.0.0.1:4222\", found '{url}'"))
    }
}

fn option(raw: &Raw) -> Converted<String> {
    match raw {
        Raw::Number(number) => Ok(number.to_string()),
        Raw::Bool(value) => Ok(value.to_string()),
        raw => text(raw),
    }
}
