#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::super::samples::{eventful, node, report};
use super::super::status::{Scope, Status};
use super::super::{Follows, NodeReport, Report};
use super::*;

fn overview(run: &Report) -> Overview {
    let code = run.exit_code();
    let status = Status::default().after(run, code, Scope::default());
    let overview = Overview::default().after(run, code, true).with_status(&status);
    Overview { published: Some(7), last_success: Some("2026-01-02T03:04:05Z".to_owned()), ..overview }
}

fn with_follower() -> Report {
    let mut run = eventful();
    let follows = Follows {
        seen: Some("2026-01-02T03:00:05Z".to_owned()),
        state: Some("current".to_owned()),
        seq: 5,
        newest: 7,
        error: None,
    };
    run.nodes.push(NodeReport { follows: Some(follows), directories: vec![], ..node("mds4") });
    run
}

#[test]
fn what_is_measured() {
    insta::assert_snapshot!(render("0.1.0", Some((&overview(&with_follower()), false))).unwrap(), @"");
}

#[test]
fn without_a_status_the_hub_tells_of_itself() {
    insta::assert_snapshot!(render("0.1.0", None).unwrap(), @"");
    let old = render("0.1.0", Some((&overview(&report(vec![node("mds1")])), true))).unwrap();
    assert!(old.contains("\nxds_sync_status_stale 1\n"), "{old}");
}

/// A strict reading of the format, and of the rules for names: what is a counter ends in `_total`, units are base units.
#[test]
fn the_format_is_that_of_prometheus() {
    let hostile = "a\"b\\c\nd";
    let mut run = with_follower();
    run.nodes.push(node(hostile));
    let text = render("0.1.0 (\"x\")", Some((&overview(&run), false))).unwrap();
    let (mut families, mut current, mut series) =
        (BTreeSet::new(), (String::new(), String::new()), BTreeSet::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert!(help.ends_with('.') || help.contains(':'), "{help}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(families.contains(name), "{name} has no help");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(!["_ms", "_minutes", "_kb", "_count"].iter().any(|unit| name.ends_with(unit)), "{name}");
            current = (name.to_owned(), kind.to_owned());
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert!(series.insert(name.to_owned()), "{name} comes twice");
            let bare = name.split('{').next().unwrap();
            assert_eq!(bare, current.0, "{line}");
            assert!(
                bare.starts_with(PREFIX) && bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{bare}"
            );
        }
    }
    assert!(series.contains("xds_sync_node_up{node=\"a\\\"b\\\\c\\nd\"}"), "{series:#?}");
    let labels: BTreeSet<&str> = series
        .iter()
        .filter_map(|name| name.split_once('{'))
        .flat_map(|(_, labels)| labels.split("\",").filter_map(|label| label.split('=').next()))
        .collect();
    assert_eq!(labels, ["directory", "exit_code", "node", "version"].into(), "no label has a path");
}
