//! WSO2's workers-list: every node in it can be written down and removed again, and is no option of ssh's.

use xds_sync::discovery::workers_list;
use xds_sync::enroll::nodes_file::{NewNode, with_node, without_node};

pub(super) fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (workers, bad) = workers_list::parse(&text);
    assert!(workers.len() + bad.len() <= text.lines().count(), "more nodes than lines");
    let mut file = String::new();
    for worker in &workers {
        let user = worker.user.as_deref().unwrap_or_default();
        assert!(!worker.host.starts_with('-') && !user.starts_with('-'), "an option of ssh's");
        let node = NewNode {
            name: worker.host.clone(),
            address: worker.host.clone(),
            user: worker.user.clone(),
            ..NewNode::default()
        };
        file = with_node(&file, &node).expect("a node that was read can be written");
    }
    for worker in &workers {
        file = without_node(&file, &worker.host).expect("what was written can be read").expect("it is there");
    }
    // Any text at all as that file.
    let _ = without_node(&text, "mds1");
}
