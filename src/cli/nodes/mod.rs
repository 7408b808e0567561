//! `xds-sync nodes`: one file for each of its commands.

mod add;
mod approve;
mod check;
mod file;
mod import;
mod install;
mod list;
mod remove;

use clap::Subcommand;
use serde::Serialize;

use super::Context;

const EXAMPLES: &str = "\
Examples:
  xds-sync nodes list           every known node, and where it is
                                known from
  xds-sync nodes check          reach each one's agent: versions,
                                clocks, room, trash
  xds-sync nodes check mds1     only this one
  xds-sync nodes add mds3 10.0.0.13 --label paris
  xds-sync nodes approve        nodes that have handed in a key at
                                the hub, to follow the store
  xds-sync nodes approve mds4 --key SHA256:… --label paris
  xds-sync nodes remove mds3
  xds-sync nodes import workers-list.txt
  xds-sync nodes install mds3   bring xds-sync there, over a key
                                that opens a shell

Exit codes: 40 when something is wrong with some nodes, 41 with all.";

/// List the nodes, check that they can be reached, add, approve, install and remove them
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(list::Args),
    Check(check::Args),
    Add(add::Args),
    Approve(approve::Args),
    Remove(remove::Args),
    Import(import::Args),
    Install(install::Args),
}

/// What `--json` prints.
#[derive(Serialize)]
struct Nodes<T> {
    nodes: Vec<T>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    match &args.action {
        Action::List(args) => list::run(context, args),
        Action::Check(args) => check::run(context, args),
        Action::Add(args) => add::run(context, args),
        Action::Approve(args) => approve::run(context, args),
        Action::Remove(args) => remove::run(context, args),
        Action::Import(args) => import::run(context, args),
        Action::Install(args) => install::run(context, args),
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = [["mds1", "10.0.0.11", ""], ["mds-paris", "10.0.0.9", "paris"]];
        let text = table(rows.iter().map(|row| row.map(str::to_owned)));
        assert_eq!(text, "mds1       10.0.0.11\nmds-paris  10.0.0.9   paris\n");
    }
}
