#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::overview::Overview;
use super::super::samples::{eventful, node, report, started};
use super::super::status::{Scope, Status};
use super::super::text::{Style, Verbosity};
use super::super::{Follows, Guard, NodeReport, NodeState, Problem, Report, Stage};
use super::*;
use crate::model::{ReloadOutcome, ReloadState, Zone};

fn overview(run: &Report) -> Overview {
    let code = run.exit_code();
    let status = Status::default().after(run, code, Scope::default());
    Overview::default().after(run, code, true).with_status(&status)
}

fn shown(overview: &Overview, is_old: bool) -> String {
    let zone = Zone::of(jiff::tz::TimeZone::UTC);
    let style = Style { verbosity: Verbosity::Normal, color: false };
    let reader = Reader { now: started() + Duration::from_secs(300), zone: &zone, style };
    page(&Seen { main: "main", overview, reader, is_old })
}

/// What a page says, without its markup: a line for each block.
fn text(html: &str) -> String {
    let body = html.split_once("<body>").unwrap().1;
    let blocks = ["</p>", "</h1>", "</h2>", "</li>", "</th>", "</td>", "</tr>", "<br>", "<ul>"];
    let body = blocks.iter().fold(body.to_owned(), |body, end| body.replace(end, &format!("\n{end}")));
    let mut text = String::new();
    for (at, part) in body.split('<').enumerate() {
        text.push_str(if at == 0 { part } else { part.split_once('>').unwrap().1 });
    }
    text.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn who_is_behind_comes_first_in_the_words_of_the_status() {
    insta::assert_snapshot!(text(&shown(&overview(&eventful()), false)), @r#"
    xds-sync on main
    2 of 3 media servers are not in step
    last run ended 2026-01-02 03:04:05 (5m ago), exit 25
    Not in step
    Media server
    State
    Directories in step
    mds2 10.0.0.11
    partly in step since 2026-01-02 03:04:05 (5m ago), never in step
    moh: halted
    recordings: 1 failed, to be tried again
    recordings: 1 in conflict, waiting for a decision
    recordings: 1 held back
    dialplan reload failed, owed: Unable to connect to remote asterisk
    none
    mds3 10.0.0.11
    unreachable since 2026-01-02 03:04:05 (5m ago), never in step
    ssh: connect to host 10.0.0.13 port 22: No route to host
    not known
    Waits for a decision of yours
    HALTED moh on mds2: 40 of 60 files would be deleted (max_delete); nothing was touched
    if that is right: xds-sync sync --accept-deletes moh-4f2a
    if it is not, or to see the files: xds-sync status
    CONFLICT files were changed on several hosts: xds-sync conflicts
    Problems of the last run
    ERROR mds2: recordings: No space left on device
    warning row 3: the name &quot;a\x07b&quot; is dropped
    In step
    Media server
    State
    Directories in step
    mds1 10.0.0.11
    in step since 2026-01-02 03:04:05 (5m ago)
    moh
    Last runs
    Ended
    Result
    What it did
    2026-01-02 03:04:05 (5m ago)
    exit 25
    2 changes, 1 of 3 nodes in step (412 ms), 5.0 MiB on the wire
    As of 2026-01-02 03:09:05. This page loads itself anew every minute.
    "#);
}

#[test]
fn all_is_well() {
    let mut well = overview(&report(vec![node("mds1"), node("mds2")]));
    well.published = Some(7);
    let html = shown(&well, false);
    insta::assert_snapshot!(text(&html), @r#"
    xds-sync on main
    All 2 media servers are in step
    last run ended 2026-01-02 03:04:05 (5m ago), exit 0
    In step
    Media server
    State
    Directories in step
    mds1 10.0.0.11
    in step since 2026-01-02 03:04:05 (5m ago)
    moh
    mds2 10.0.0.11
    in step since 2026-01-02 03:04:05 (5m ago)
    moh
    Last runs
    Ended
    Result
    What it did
    2026-01-02 03:04:05 (5m ago)
    ok
    2 nodes in step (412 ms)
    store: publication 7 is the newest
    As of 2026-01-02 03:09:05. This page loads itself anew every minute.
    "#);
    assert!(html.contains("<header class=\"good\">"), "{html}");
    assert!(html.contains("<title>All 2 media servers are in step – main</title>"), "{html}");
}

#[test]
fn what_was_well_last_week_is_not_well_now() {
    let html = shown(&overview(&report(vec![node("mds1")])), true);
    let header = html.split("</header>").next().unwrap();
    assert!(header.contains("<header class=\"bad\">"), "{header}");
    assert!(header.contains("<h1>Unknown: no run has ended for too long</h1>"), "{header}");
    assert!(header.contains("last run ended 2026-01-02 03:04:05 (5m ago)"), "{header}");
    assert!(html.contains("<title>Unknown"), "{html}");
    // Nor does a line of it look like now.
    assert!(html.contains("<main class=\"old\">") && html.contains(">In step then</h2>"), "{html}");
    assert!(STYLE.contains(".old .good{color:var(--soft)}"));
}

#[test]
fn before_the_first_run_and_without_nodes_nothing_looks_well() {
    let none = shown(&Overview::default(), true);
    assert!(none.contains("no run yet: xds-sync sync") && !none.contains("class=\"good\""), "{none}");
    let empty = shown(&overview(&report(vec![])), false);
    assert!(empty.contains("<h1>No media server is known</h1>"), "{empty}");
    assert!(!empty.contains("header class=\"good\"") && !empty.contains("class=\"nodes\""), "{empty}");
}

#[test]
fn what_is_wrong_on_main_alone_is_wrong() {
    let mut run = report(vec![node("mds1")]);
    run.problems = vec![Problem::failure(Stage::Publish, "nothing was published: no such bucket")];
    let html = shown(&overview(&run), false);
    assert!(html.contains("<h1>Something is wrong on Main</h1>"), "{html}");
    assert!(html.contains("nothing was published: no such bucket"), "{html}");
}

#[test]
fn a_follower_and_an_owed_reload() {
    let follows = |seq, error: Option<&str>| Follows {
        seen: Some("2026-01-02T03:00:05Z".to_owned()),
        state: Some(if error.is_some() { "degraded" } else { "current" }.to_owned()),
        seq,
        newest: 7,
        error: error.map(str::to_owned),
    };
    let state = NodeState::Partial;
    let owed = ReloadOutcome { name: "moh".to_owned(), state: ReloadState::Owed, detail: None };
    let run = report(vec![
        NodeReport { follows: Some(follows(7, None)), ..node("mds1") },
        NodeReport { follows: Some(follows(5, Some("no answer"))), state, ..node("mds2") },
        NodeReport { reloads: vec![owed], state, ..node("mds3") },
    ]);
    let text = text(&shown(&overview(&run), false));
    for line in [
        "follows the store: has publication 7, the newest, told 2026-01-02 03:00:05 (9m ago)",
        "follows the store: has publication 5 of 7, degraded: no answer, told 2026-01-02 03:00:05 (9m ago)",
        "moh reload owed",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

/// Names and errors come from hosts: whatever they are, they are text.
#[test]
fn what_hosts_say_is_text() {
    let hostile = "<script>alert(1)</script>\"'&\u{202e}\n</td>";
    let mut run = report(vec![NodeReport {
        state: NodeState::Unreachable,
        address: hostile.to_owned(),
        error: Some(hostile.to_owned()),
        ..node(hostile)
    }]);
    run.nodes[0].directories[0].name = hostile.to_owned();
    run.nodes[0].reloads = vec![ReloadOutcome {
        name: hostile.into(),
        state: ReloadState::Failed,
        detail: Some(hostile.into()),
    }];
    run.nodes[0].follows = Some(Follows {
        seen: Some(hostile.to_owned()),
        state: Some(hostile.to_owned()),
        seq: 1,
        newest: 2,
        error: Some(hostile.to_owned()),
    });
    run.halted = vec![Halted {
        directory: hostile.to_owned(),
        detail: hostile.to_owned(),
        token: Some(hostile.to_owned()),
        ..super::super::samples::halted("moh", Guard::MaxDelete)
    }];
    run.problems = vec![
        Problem::failure(Stage::Discovery, hostile),
        Problem { node: Some(hostile.to_owned()), ..Problem::failure(Stage::Commit, hostile) },
    ];
    let mut overview = overview(&run);
    overview.runs[0].summary = hostile.to_owned();
    overview.status.ended = Some(hostile.to_owned());
    let zone = Zone::of(jiff::tz::TimeZone::UTC);
    let style = Style { verbosity: Verbosity::Normal, color: false };
    let reader = Reader { now: started(), zone: &zone, style };
    for html in [
        page(&Seen { main: hostile, overview: &overview, reader, is_old: false }),
        without_status(hostile, hostile, "", &reader),
    ] {
        let lower = html.to_lowercase();
        assert!(!lower.contains("<script") && !html.contains('\u{202e}'), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
        assert_eq!(lower.matches("<td").count(), lower.matches("</td>").count(), "{html}");
        // Nothing is fetched, and nothing can be run.
        for none in ["src=", "href=", "url(", "@import", " on", "javascript:", "style="] {
            let markup: String =
                html.split('<').skip(1).filter_map(|tag| tag.split_once('>')).map(|(tag, _)| tag).collect();
            assert!(!markup.contains(none) && !STYLE.contains(none), "{none}: {markup}");
        }
    }
}

/// Tables have header cells and keep their roles where a narrow screen shows them as blocks; sections are named.
#[test]
fn who_hears_the_page_hears_what_the_others_see() {
    let html = shown(&overview(&eventful()), false);
    assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{html}");
    assert_eq!(html.matches("<h1>").count(), 1);
    for table in html.split("<table").skip(1) {
        let table = table.split("</table>").next().unwrap();
        assert!(table.contains(" role=\"table\">") && table.contains("scope=\"col\""), "{table}");
        for (tag, role) in [("<tr", "row"), ("<td", "cell")] {
            assert_eq!(table.matches(tag).count(), table.matches(&format!("{tag} role=\"{role}\"")).count());
        }
    }
    for section in html.split("<section").skip(1) {
        let id = section.split('"').nth(1).unwrap();
        assert!(section.contains(&format!("<h2 id=\"{id}\">")), "{section}");
    }
}

#[test]
fn it_is_small() {
    let many: Vec<NodeReport> = (0..500).map(|number| node(&format!("mds{number}"))).collect();
    let html = shown(&overview(&report(many)), false);
    assert!(html.len() < 200 * 1024, "{}", html.len());
}
