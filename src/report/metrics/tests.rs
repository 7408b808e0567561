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
    insta::assert_snapshot!(render("0.1.0", Some((&overview(&with_follower()), false))).unwrap(), @r#"
    # HELP xds_sync_build_info Which xds-sync the hub is.
    # TYPE xds_sync_build_info gauge
    xds_sync_build_info{version="0.1.0"} 1
    # HELP xds_sync_directory_conflicts Conflicts that wait for a decision.
    # TYPE xds_sync_directory_conflicts gauge
    xds_sync_directory_conflicts{directory="moh",node="mds1"} 0
    xds_sync_directory_conflicts{directory="moh",node="mds2"} 0
    xds_sync_directory_conflicts{directory="recordings",node="mds2"} 1
    # HELP xds_sync_directory_failed_entries What failed and is tried again.
    # TYPE xds_sync_directory_failed_entries gauge
    xds_sync_directory_failed_entries{directory="moh",node="mds1"} 0
    xds_sync_directory_failed_entries{directory="moh",node="mds2"} 0
    xds_sync_directory_failed_entries{directory="recordings",node="mds2"} 1
    # HELP xds_sync_directory_halted Whether a guard has halted the directory there.
    # TYPE xds_sync_directory_halted gauge
    xds_sync_directory_halted{directory="moh",node="mds1"} 0
    xds_sync_directory_halted{directory="moh",node="mds2"} 1
    xds_sync_directory_halted{directory="recordings",node="mds2"} 0
    # HELP xds_sync_directory_held_files Files that are still being written.
    # TYPE xds_sync_directory_held_files gauge
    xds_sync_directory_held_files{directory="moh",node="mds1"} 0
    xds_sync_directory_held_files{directory="moh",node="mds2"} 0
    xds_sync_directory_held_files{directory="recordings",node="mds2"} 1
    # HELP xds_sync_follower_lag_publications How many publications it was behind when it told that.
    # TYPE xds_sync_follower_lag_publications gauge
    xds_sync_follower_lag_publications{node="mds4"} 2
    # HELP xds_sync_follower_publication The publication that it has wholly; 0: none.
    # TYPE xds_sync_follower_publication gauge
    xds_sync_follower_publication{node="mds4"} 5
    # HELP xds_sync_follower_seen_timestamp_seconds Of a node that follows the store: when it told how it is.
    # TYPE xds_sync_follower_seen_timestamp_seconds gauge
    xds_sync_follower_seen_timestamp_seconds{node="mds4"} 1767322805
    # HELP xds_sync_halted_directories Directories, or nodes' parts of them, that a guard has halted.
    # TYPE xds_sync_halted_directories gauge
    xds_sync_halted_directories 1
    # HELP xds_sync_last_run_duration_seconds How long it took.
    # TYPE xds_sync_last_run_duration_seconds gauge
    xds_sync_last_run_duration_seconds 0.412
    # HELP xds_sync_last_run_end_timestamp_seconds When the last run ended.
    # TYPE xds_sync_last_run_end_timestamp_seconds gauge
    xds_sync_last_run_end_timestamp_seconds 1767323045
    # HELP xds_sync_last_run_exit_code How it ended: 0 when all was in step.
    # TYPE xds_sync_last_run_exit_code gauge
    xds_sync_last_run_exit_code 25
    # HELP xds_sync_last_run_transferred_bytes What it had on the wire.
    # TYPE xds_sync_last_run_transferred_bytes gauge
    xds_sync_last_run_transferred_bytes 5242880
    # HELP xds_sync_last_success_timestamp_seconds End of the last run over everything that left everything in step.
    # TYPE xds_sync_last_success_timestamp_seconds gauge
    xds_sync_last_success_timestamp_seconds 1767323045
    # HELP xds_sync_node_exit_code The node's own exit code: 0 in step, 41 unreachable or refused, 42 a reload is owed.
    # TYPE xds_sync_node_exit_code gauge
    xds_sync_node_exit_code{node="mds1"} 0
    xds_sync_node_exit_code{node="mds2"} 25
    xds_sync_node_exit_code{node="mds3"} 41
    xds_sync_node_exit_code{node="mds4"} 0
    # HELP xds_sync_node_in_step Whether nothing is wrong with the node.
    # TYPE xds_sync_node_in_step gauge
    xds_sync_node_in_step{node="mds1"} 1
    xds_sync_node_in_step{node="mds2"} 0
    xds_sync_node_in_step{node="mds3"} 0
    xds_sync_node_in_step{node="mds4"} 1
    # HELP xds_sync_node_last_success_timestamp_seconds When the node was in step last; absent: never.
    # TYPE xds_sync_node_last_success_timestamp_seconds gauge
    xds_sync_node_last_success_timestamp_seconds{node="mds1"} 1767323045
    xds_sync_node_last_success_timestamp_seconds{node="mds4"} 1767323045
    # HELP xds_sync_node_owed_reloads Reloads that are due there.
    # TYPE xds_sync_node_owed_reloads gauge
    xds_sync_node_owed_reloads{node="mds1"} 0
    xds_sync_node_owed_reloads{node="mds2"} 1
    xds_sync_node_owed_reloads{node="mds3"} 0
    xds_sync_node_owed_reloads{node="mds4"} 0
    # HELP xds_sync_node_state_since_timestamp_seconds When the node's state began.
    # TYPE xds_sync_node_state_since_timestamp_seconds gauge
    xds_sync_node_state_since_timestamp_seconds{node="mds1"} 1767323045
    xds_sync_node_state_since_timestamp_seconds{node="mds2"} 1767323045
    xds_sync_node_state_since_timestamp_seconds{node="mds3"} 1767323045
    xds_sync_node_state_since_timestamp_seconds{node="mds4"} 1767323045
    # HELP xds_sync_node_up Whether the node was reached to the end.
    # TYPE xds_sync_node_up gauge
    xds_sync_node_up{node="mds1"} 1
    xds_sync_node_up{node="mds2"} 1
    xds_sync_node_up{node="mds3"} 0
    xds_sync_node_up{node="mds4"} 1
    # HELP xds_sync_problems What else went wrong in the last run.
    # TYPE xds_sync_problems gauge
    xds_sync_problems 1
    # HELP xds_sync_runs_total Runs that have ended, by exit code.
    # TYPE xds_sync_runs_total counter
    xds_sync_runs_total{exit_code="25"} 1
    # HELP xds_sync_status_exit_code The exit code of 'xds-sync status': 0 when all is well.
    # TYPE xds_sync_status_exit_code gauge
    xds_sync_status_exit_code 25
    # HELP xds_sync_status_readable Whether the hub can read what runs leave for it.
    # TYPE xds_sync_status_readable gauge
    xds_sync_status_readable 1
    # HELP xds_sync_status_stale 1 where no run has ended for too long: all else is how it was then.
    # TYPE xds_sync_status_stale gauge
    xds_sync_status_stale 0
    # HELP xds_sync_store_publication The newest publication in the store.
    # TYPE xds_sync_store_publication gauge
    xds_sync_store_publication 7
    # HELP xds_sync_transferred_bytes_total What runs had on the wire.
    # TYPE xds_sync_transferred_bytes_total counter
    xds_sync_transferred_bytes_total 5242880
    "#);
}

#[test]
fn without_a_status_the_hub_tells_of_itself() {
    insta::assert_snapshot!(render("0.1.0", None).unwrap(), @r#"
    # HELP xds_sync_build_info Which xds-sync the hub is.
    # TYPE xds_sync_build_info gauge
    xds_sync_build_info{version="0.1.0"} 1
    # HELP xds_sync_status_readable Whether the hub can read what runs leave for it.
    # TYPE xds_sync_status_readable gauge
    xds_sync_status_readable 0
    "#);
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
