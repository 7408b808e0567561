//! What a crash, a bad disk or an older version may have left: it is read as it was written, or not at all.

use std::fs;

use xds_sync::disk::HeldRoot;
use xds_sync::disk::marker::Marker;
use xds_sync::node::ssh::OwnConfig;
use xds_sync::report::status::Status;
use xds_sync::snapshot::HashCache;
use xds_sync::state::{EdgeHeader, EdgeRecord, StateDir};

use super::choice;
use super::host::scratch;

pub(super) fn read(bytes: &[u8]) {
    let Some((kind, bytes)) = choice(bytes) else { return };
    let dir = scratch();
    let state = StateDir::open(&dir.path().join("state")).expect("a state directory");
    let put = |path: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    };
    match kind % 7 {
        0 => {
            put("state/edges/moh/mds1");
            if let Ok(Some(edge)) = state.edge("moh", "mds1")
                && let Ok(base) = edge.base()
            {
                let intent = edge.intent().and_then(Result::ok);
                let kept = edge.kept().unwrap_or_default();
                let again = {
                    let (root, generation, rules) = (edge.root, edge.generation, edge.rules);
                    let (agreed, in_step) = (edge.agreed, edge.in_step);
                    let header = EdgeHeader { root, generation, rules, agreed, in_step };
                    EdgeRecord::new(header, &base, &kept, intent.as_ref())
                };
                assert_eq!(again.base().as_ref(), Ok(&base));
                assert_eq!(again.intent(), intent.map(Ok));
            }
        }
        1 => {
            put("state/ledger.json");
            if let Ok(ledger) = state.ledger() {
                state.save_ledger(&ledger).expect("a ledger that was read can be written");
                assert_eq!(state.ledger().expect("and read again"), ledger);
            }
        }
        2 => {
            put("state/identity.json");
            if let Ok(Some(identity)) = state.identity() {
                state.save_identity(&identity).expect("an identity that was read can be written");
                assert_eq!(state.identity().expect("and read again"), Some(identity));
            }
        }
        3 => {
            put("root/.xds-sync/root.json");
            let root = HeldRoot::open(&dir.path().join("root")).expect("a root");
            if let Ok(Some(marker)) = Marker::read(&root) {
                marker.write(&root).expect("a marker that was read can be written");
                assert_eq!(Marker::read(&root).expect("and read again"), Some(marker));
            }
        }
        4 => {
            put("cache");
            let mut cache = HashCache::load(&dir.path().join("cache"));
            cache.save(&dir.path().join("cache")).expect("a cache can be written");
        }
        5 => {
            if let Ok(status) = Status::parse(bytes) {
                let again = Status::parse(status.to_json().as_bytes());
                assert_eq!(again.expect("a status that was read can be written"), status);
            }
        }
        _ => {
            put(".ssh/config");
            let _ = OwnConfig::read(dir.path());
        }
    }
}
