//! stub
#![allow(missing_docs)]
use crate::model::Digest;
use std::collections::BTreeMap;
pub type Loaded = BTreeMap<String, Digest>;
pub fn owed(record: Option<&Loaded>, before: &Loaded, after: &Loaded) -> bool {
    after.iter().any(|(d, now)| record.and_then(|r| r.get(d)).or(before.get(d)) != Some(now))
}
