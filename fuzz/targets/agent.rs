//! An agent with a real disk, and a Main that may say anything: nothing outside of the root or excluded in
//! it changes, and the session ends.

use xds_sync::node::agent as node_agent;

use super::host::{Host, progress};

pub(super) fn serve(bytes: &[u8]) {
    let mut host = Host::new();
    let accept = host.accept();
    let mut said = Vec::new();
    let served = node_agent::serve(bytes, &mut said, &mut host, &accept, &progress());
    if let Err(error) = served {
        assert!(!error.detail.contains(['\n', '\x1b']), "an error with an escape: {}", error.detail);
    }
    host.check();
}
