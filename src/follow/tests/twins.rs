//! Two nodes with one name and one key, as where a machine was copied: nothing that either of them records is lost.

use std::collections::BTreeMap;
use std::fs;

use super::{Both, Site};
use crate::follow::pending::{Pending, SendTo};
use crate::store::names::Area;
use crate::store::upload::{On, Upload};
use crate::store::{FORMAT, envelope};

/// The other one of them goes on.
fn swap(site: &Site) {
    for name in ["state", "rec"] {
        let (one, other, between) = (site.path(name), site.path(&format!("{name}-2")), site.path("between"));
        fs::rename(&one, &between).unwrap();
        fs::rename(&other, &one).unwrap();
        fs::rename(&between, &other).unwrap();
    }
}

#[test]
fn what_either_of_two_nodes_with_one_name_records_is_on_main_and_on_both() {
    let mut both = Both::new("");
    both.publish();
    both.0.follow();
    for name in ["state", "rec"] {
        both.0.copy(name, &format!("{name}-2"));
    }
    both.0.record("first.wav", "1");
    both.0.follow();
    swap(&both.0);
    both.0.record("second.wav", "2");
    let passed = both.0.pass();
    assert_eq!(passed.exit_code, 23, "{:?}", passed.report);
    let told: Vec<&str> = passed.report.problems.iter().map(|problem| &*problem.detail).collect();
    assert!(told.iter().any(|told| told.contains("two nodes may have the name mds1")), "{told:?}");
    both.publish();
    for _ in 0..2 {
        both.0.follow();
        for (name, content) in [("first.wav", "1"), ("second.wav", "2")] {
            assert_eq!(both.0.has(&format!("rec/{name}")).as_deref(), Some(content));
            assert_eq!(both.main(name).as_deref(), Some(content));
        }
        swap(&both.0);
    }
}

fn upload(node: &str, seq: u64) -> Upload {
    Upload {
        v: FORMAT,
        cluster: "01JCLUSTER".to_owned(),
        node: node.to_owned(),
        seq,
        time: "2026-01-02T03:04:05Z".to_owned(),
        on: On { epoch: 1, seq: 1 },
        directories: Vec::new(),
    }
}

/// Of the other node's, Main says that it has taken them in.
#[test]
fn what_was_never_sent_was_not_taken_in() {
    let site = Site::new();
    let mut pending = Pending::read(&site.path("state")).unwrap();
    let identity = site.path("node");
    for seq in [2, 3] {
        pending.put(upload("mds1", seq), &identity, BTreeMap::new(), &[]).unwrap();
    }
    pending.forget(2, false);
    let mut pending = Pending::read(&site.path("state")).unwrap();
    assert_eq!(pending.last(), 3);
    let area = Area::node("mds1").unwrap();
    let to = SendTo { objects: &*site.objects, area: &area, node: "mds1", identity: &identity, taken: 2 };
    let sent = pending.send(&to).unwrap();
    assert_eq!((sent.last, sent.foreign), (Some(4), Some(2)));
    assert_eq!(site.objects.list(&area.uploads()).unwrap(), [area.upload(3), area.upload(4)]);
    let mut pending = Pending::read(&site.path("state")).unwrap();
    assert_eq!(pending.send(&to).unwrap().last, None, "they are sent");
    pending.forget(4, false);
    assert_eq!(Pending::read(&site.path("state")).unwrap().last(), 0);
}

#[test]
fn what_was_signed_under_another_name_or_with_another_key_is_signed_again() {
    let site = Site::new();
    let mut pending = Pending::read(&site.path("state")).unwrap();
    pending.put(upload("old", 1), &site.path("node"), BTreeMap::new(), &[]).unwrap();
    pending.put(upload("mds1", 2), &site.path("main"), BTreeMap::new(), &[]).unwrap();
    let (area, identity) = (Area::node("mds1").unwrap(), site.path("node"));
    let to = SendTo { objects: &*site.objects, area: &area, node: "mds1", identity: &identity, taken: 0 };
    let sent = pending.send(&to).unwrap();
    assert_eq!((sent.last, sent.foreign), (Some(2), None));
    let key = ssh_key::PublicKey::read_openssh_file(&site.path("node.pub")).unwrap();
    for seq in [1, 2] {
        let object = site.objects.get(&area.upload(seq), 1 << 20).unwrap().unwrap();
        let read: Upload = envelope::open(&object, std::slice::from_ref(&key), "up").unwrap();
        assert_eq!((&*read.node, read.seq), ("mds1", seq));
    }
}
