//! Nodes in a JSON document on a web server.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::LIMIT;
use super::rows::{RawAnswer, Row};
use crate::config::Http;
use crate::fetch::{self, Limits, Trust};

pub(super) fn ask(source: &Http, timeout: Duration) -> anyhow::Result<RawAnswer> {
    let url: Url = source.url.parse().context("its URL")?;
    let headers = match &source.headers_file {
        Some(file) => headers(file)?,
        None => HeaderMap::new(),
    };
    let trust = source.ca.clone().map_or(Trust::System, Trust::File);
    let limits = Limits { connect: timeout, total: timeout, body: LIMIT };
    said(&fetch::get_with(&url, headers, &trust, limits)?, source)
}

/// Reads lines of `Name: value`. Messages do not quote them: values are secrets.
fn headers(file: &Path) -> anyhow::Result<HeaderMap> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut headers = HeaderMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let Some((name, value)) = header else {
            bail!("{}:{number}: expected a request header, Name: value", file.display());
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn said(body: &[u8], source: &Http) -> anyhow::Result<RawAnswer> {
    let document: Value = match serde_json::from_slice(body) {
        Ok(document) => document,
        Err(_) if body.trim_ascii_start().starts_with(b"<") => {
            bail!("its answer is a web page (HTML or XML) and no JSON")
        }
        Err(error) => return Err(error).context("its answer is no JSON"),
    };
    let items = document.pointer(&source.items).and_then(Value::as_array);
    let items = items.with_context(|| match &*source.items {
        "" => "its answer is no list: write into discovery.http.items where in it the list is".to_owned(),
        items => format!("there is no list at {items} in its answer (discovery.http.items)"),
    })?;
    let rows = (1..).zip(items).map(|(number, item)| {
        let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Row {
            at: format!("item {number}"),
            name: text(&source.name),
            address: text(&source.address),
            ..Row::default()
        }
    });
    Ok(RawAnswer { rows: rows.collect(), dropped: Vec::new() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source(items: &str) -> Http {
        Http {
            url: String::new(),
            items: items.to_owned(),
            name: "/name".to_owned(),
            address: "/net/voip_ip".to_owned(),
            headers_file: None,
            ca: None,
        }
    }

    #[test]
    fn pointers_lead_to_rows() {
        let list =
            r#"[{"name":"mds1","net":{"voip_ip":"10.0.0.11"}},{"name":"mds2"},{"name":3,"net":null},"x"]"#;
        for (document, items) in [
            (list.to_owned(), ""),
            (format!("{{\"items\":{list}}}"), "/items"),
            (format!("{{\"a\":[{{\"b/c\":{list}}}]}}"), "/a/0/b~1c"),
        ] {
            let said = said(document.as_bytes(), &source(items)).unwrap();
            let told: Vec<_> =
                said.rows.iter().map(|row| (&*row.at, row.name.as_deref(), row.address.as_deref())).collect();
            let first = ("item 1", Some("mds1"), Some("10.0.0.11"));
            assert_eq!(
                told,
                [first, ("item 2", Some("mds2"), None), ("item 3", None, None), ("item 4", None, None)]
            );
        }
    }

    #[test]
    fn what_is_no_list_is_told() {
        for (document, items, expected) in [
            ("<!DOCTYPE html><p>secret", "/items", "its answer is a web page (HTML or XML) and no JSON"),
            ("{\"items\":[", "/items", "its answer is no JSON: EOF while parsing a list at line 1 column 10"),
            ("", "/items", "its answer is no JSON: EOF while parsing a value at line 1 column 0"),
            ("{\"items\":{}}", "/items", "there is no list at /items in its answer (discovery.http.items)"),
            ("[]", "/items", "there is no list at /items in its answer (discovery.http.items)"),
            ("{}", "", "its answer is no list: write into discovery.http.items where in it the list is"),
        ] {
            let error = said(document.as_bytes(), &source(items)).unwrap_err();
            assert_eq!(format!("{error:#}"), expected);
        }
    }

    #[test]
    fn headers_are_read_and_never_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("headers");
        fs::write(&file, "# for the API\nX-Auth-Token: secret\n\nAccept: application/json\r\n").unwrap();
        let read = headers(&file).unwrap();
        assert_eq!(read["x-auth-token"], "secret");
        assert_eq!(read["accept"], "application/json");
        assert!(!format!("{read:?}").contains("secret"));
        for bad in ["X-Auth-Token secret", "X Auth: secret", "X-Auth-Token: se\u{1}cret"] {
            fs::write(&file, format!("Accept: */*\n{bad}\n")).unwrap();
            let error = format!("{:#}", headers(&file).unwrap_err());
            assert_eq!(error, format!("{}:2: expected a request header, Name: value", file.display()));
        }
    }
}
