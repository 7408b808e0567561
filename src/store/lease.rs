//! Which Main publishes, and its sign of life.

use serde::{Deserialize, Serialize};

use super::Sha256;
use super::envelope::Signed;

/// From this epoch on, this Main alone publishes. Who has created the name of a lease holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The format.
    pub v: u32,
    /// The store's ULID.
    pub cluster: String,
    /// Its number; 1 is the first.
    pub epoch: u64,
    /// The Main that holds it.
    pub main: String,
    /// Its id, as in `identity.json`: two hosts may have one name.
    pub main_id: String,
    /// When it was taken, in RFC 3339.
    pub time: String,
    /// The newest head when it was taken; 0: none. Later heads of older epochs are not followed.
    pub prev_seq: u64,
}

/// The newest head of an epoch, and until when it can be believed that there is no newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    /// The format.
    pub v: u32,
    /// The store's ULID.
    pub cluster: String,
    /// The lease.
    pub epoch: u64,
    /// The newest head.
    pub seq: u64,
    /// Its hash, as an object.
    pub head: Sha256,
    /// The Main that holds the lease.
    pub main: String,
    /// When this was written, in RFC 3339.
    pub issued: String,
    /// When it is stale, in RFC 3339.
    pub expires: String,
    /// Whether this Main has given its lease up: another one may claim it.
    pub released: bool,
}

impl Signed for Lease {
    const NAMESPACE: &'static str = "xds-sync-lease@v1";
    const WHAT: &'static str = "the lease";
}

impl Signed for Alive {
    const NAMESPACE: &'static str = "xds-sync-alive@v1";
    const WHAT: &'static str = "the sign of life";
}
