//! The hub's page: is all well, and if not, which media server is behind, and why. The words are those of `xds-sync status`.
//!
//! There is no script and nothing to be fetched beside it. All text goes through `maud`, which escapes it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::overview::{Overview, RunNote};
use super::status::{NodeStatus, Status};
use super::status_text::{Reader, details, problem_line, state};
use super::{DirectoryState, Halted, remedy, words};
use crate::model::escape::clean;

/// All of the page's style, which the hub allows by its hash.
pub(crate) const STYLE: &str = include_str!("page.css");

/// What is looked at, and when.
pub(crate) struct Seen<'a> {
    /// Main's name.
    pub(crate) main: &'a str,
    pub(crate) overview: &'a Overview,
    pub(crate) reader: Reader<'a>,
    /// Whether it says nothing of how things are now.
    pub(crate) is_old: bool,
}

/// How bad something is, as a class of the style. The words beside it say the same.
const GOOD: &str = "good";
const BAD: &str = "bad";
const WARN: &str = "warn";

/// The page.
pub(crate) fn page(seen: &Seen<'_>) -> String {
    let Seen { main, overview, reader, is_old } = seen;
    let status = &overview.status;
    let (class, verdict) = verdict(status, *is_old);
    let (well, behind): (Vec<&NodeStatus>, Vec<&NodeStatus>) =
        status.nodes.iter().partition(|node| node.is_well());
    let body = html! {
        header class=(class) {
            p { "xds-sync on " b { (words::name(main)) } }
            h1 { (verdict) }
            @match &status.ended {
                Some(ended) => p {
                    "last run ended " (reader.ago(ended)) ", exit " (status.exit_code.unwrap_or_default())
                },
                None => p { "no run yet: xds-sync sync" },
            }
            @if *is_old { p {
                "What stands below is how it was then. Either no run begins (is cron running, or xds-sync-watch?), or one has been "
                "under way since: " code { "xds-sync status" } " on Main tells."
            } }
            @if let Some(success) = overview.last_success.as_ref().filter(|_| class != GOOD) {
                p { "all was in step last " (reader.ago(success)) }
            }
        }
        main class=[is_old.then_some("old")] {
            (table_of("behind", if *is_old { "Not in step then" } else { "Not in step" }, &behind, reader))
            (halted(status))
            (problems(overview))
            (table_of("well", if *is_old { "In step then" } else { "In step" }, &well, reader))
            (runs(&overview.runs, reader))
            @if let Some(seq) = overview.published { p {
                "store: " @if seq == 0 { "nothing was published yet" } @else { "publication " (seq) " is the newest" }
            } }
        }
    };
    whole(&format!("{verdict} – {}", words::name(main)), &body, &reader.zone.tell(reader.now))
}

/// The page where nothing is known of the cluster: why, and what to do.
pub(crate) fn without_status(main: &str, why: &str, remedy: &str, reader: &Reader<'_>) -> String {
    let body = html! {
        header class=(BAD) {
            p { "xds-sync on " b { (words::name(main)) } }
            h1 { "Nothing is known of the media servers" }
            p { (clean(why)) }
            p { (remedy) }
        }
    };
    let title = format!("nothing is known – {}", words::name(main));
    whole(&title, &body, &reader.zone.tell(reader.now))
}

fn whole(title: &str, body: &Markup, now: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content="60";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                footer { p { "As of " (now) ". This page loads itself anew every minute." } }
            }
        }
    };
    page.into_string()
}

/// Is all well?
fn verdict(status: &Status, is_old: bool) -> (&'static str, String) {
    let all = status.nodes.len() as u64;
    let behind = status.nodes.iter().filter(|node| !node.is_well()).count() as u64;
    let servers = |number| words::count(number, "media server", "media servers");
    match (all, behind) {
        _ if is_old => (BAD, "Unknown: no run has ended for too long".to_owned()),
        (0, _) => (WARN, "No media server is known".to_owned()),
        (all, 0) if status.status_code == 0 => {
            let all = if all == 1 { "The media server".to_owned() } else { format!("All {}", servers(all)) };
            (GOOD, format!("{all} {} in step", if status.nodes.len() == 1 { "is" } else { "are" }))
        }
        (_, 0) => (BAD, "Something is wrong on Main".to_owned()),
        (all, behind) => {
            let verb = if behind == 1 { "is" } else { "are" };
            (BAD, format!("{behind} of {} {verb} not in step", servers(all)))
        }
    }
}

fn halted(status: &Status) -> Markup {
    let decides = |halted: &Halted| {
        html! {
            li class=(BAD) {
                strong class=(BAD) { "HALTED" } " " (words::halted(halted))
                @for line in remedy::in_short(halted) { br; (line) }
            }
        }
    };
    let waits = status.nodes.iter().flat_map(|node| &node.directories).any(|directory| directory.waiting > 0);
    html! {
        @if waits || !status.halted.is_empty() {
            section aria-labelledby="decide" {
                h2 id="decide" { "Waits for a decision of yours" }
                ul.cards {
                    @for one in &status.halted { (decides(one)) }
                    @if waits { li class=(BAD) {
                        strong class=(BAD) { "CONFLICT" } " files were changed on several hosts: " code { "xds-sync conflicts" }
                    } }
                }
            }
        }
    }
}

fn problems(overview: &Overview) -> Markup {
    let problems = &overview.status.problems;
    html! {
        @if overview.more > 0 || !problems.is_empty() {
            section aria-labelledby="problems" {
                h2 id="problems" { "Problems of the last run" }
                ul.cards {
                    @for problem in problems {
                        @let (word, line) = problem_line(problem);
                        @let class = if problem.fails { BAD } else { WARN };
                        li class=(class) { strong class=(class) { (word) } " " (line) }
                    }
                    @if overview.more > 0 {
                        li { "and " (overview.more) " more: " code { "xds-sync status" } }
                    }
                }
            }
        }
    }
}

/// A table of nodes. On a narrow screen each row is a block, and the roles keep it a table for who hears it.
fn table_of(id: &str, title: &str, nodes: &[&NodeStatus], reader: &Reader<'_>) -> Markup {
    html! {
        @if !nodes.is_empty() {
            section aria-labelledby=(id) {
                h2 id=(id) { (title) }
                table.nodes role="table" {
                    thead role="rowgroup" { tr role="row" {
                        th role="columnheader" scope="col" { "Media server" }
                        th role="columnheader" scope="col" { "State" }
                        th role="columnheader" scope="col" { "Directories in step" }
                    } }
                    tbody role="rowgroup" { @for node in nodes { (row(node, reader)) } }
                }
            }
        }
    }
}

fn row(node: &NodeStatus, reader: &Reader<'_>) -> Markup {
    let class = if node.is_well() { GOOD } else { BAD };
    let (state, since) = state(node, reader);
    let is_lost = node.state.is_lost() || node.silence().is_some();
    let is_in_step = |state| matches!(state, DirectoryState::InStep | DirectoryState::Changed);
    let directories = node.directories.iter().filter(|directory| is_in_step(directory.state));
    let directories: Vec<String> = directories.map(|directory| words::name(&directory.name)).collect();
    html! {
        tr role="row" {
            th role="rowheader" scope="row" {
                (words::name(&node.name))
                @if !node.address.is_empty() { " " span.soft { (words::name(&node.address)) } }
            }
            td role="cell" {
                strong class=(class) { (state) } (since)
                ul { @for line in details(node, reader) { li { (line) } } }
            }
            td role="cell" {
                // Of one that was not reached or heard of, what is known is old.
                @if is_lost && !directories.is_empty() { span.soft { "last known: " } }
                @if node.directories.is_empty() { span.soft { "not known" } }
                @else if directories.is_empty() { span.soft { "none" } }
                @else { (directories.join(", ")) }
            }
        }
    }
}

fn runs(runs: &[RunNote], reader: &Reader<'_>) -> Markup {
    html! {
        @if !runs.is_empty() {
            section aria-labelledby="runs" {
                h2 id="runs" { "Last runs" }
                table role="table" {
                    thead role="rowgroup" { tr role="row" {
                        th role="columnheader" scope="col" { "Ended" }
                        th role="columnheader" scope="col" { "Result" }
                        th role="columnheader" scope="col" { "What it did" }
                    } }
                    tbody role="rowgroup" { @for run in runs {
                        @let class = if run.exit_code == 0 { GOOD } else { BAD };
                        tr role="row" {
                            td role="cell" { (reader.ago(&run.ended)) }
                            td role="cell" { strong class=(class) {
                                @if run.exit_code == 0 { "ok" } @else { "exit " (run.exit_code) }
                            } }
                            td role="cell" {
                                (clean(&run.summary))
                                @if run.bytes > 0 { ", " (words::bytes(run.bytes)) " on the wire" }
                            }
                        }
                    } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
