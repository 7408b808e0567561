//! `manual DIR`: writes the man pages into DIR. What commands and options do comes from their help; the words
//! beside this file are the sections that help has not, and the pages of section 5.
//!
//! A program of its own, so that xds-sync does not carry what is needed only once, when a package is made.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Sections that follow what help says, by page; and whole pages of section 5.
const WORDS: &str = "docs/man";
/// Examples that a page of section 5 shows in full, by the line that stands for them.
const FILES: [(&str, &str); 2] = [
    ("@config.example.toml@", include_str!("../config.example.toml")),
    ("@node.example.toml@", include_str!("../node.example.toml")),
];

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).context("usage: manual DIR")?;
    let dir = Path::new(&dir);
    let mut words = words()?;
    let mut command = xds_sync::cli::command().disable_help_subcommand(true);
    // Gives every subcommand its whole name and the options that hold everywhere.
    command.build();
    let source = format!("xds-sync {}", command.get_version().unwrap_or_default());

    pages(&command, &source, &mut words, dir)?;
    for (name, text) in words {
        ensure!(name.ends_with(".5"), "docs/man/{name}.roff is the page of no command");
        let title = name.trim_end_matches(".5").to_uppercase();
        let head = format!(".TH {title} 5 \"\" \"{source}\" \"Configuration files\"\n");
        fs::write(dir.join(&name), head + &with_files(&text))?;
    }
    Ok(())
}

/// The page of a command, and those of its subcommands.
fn pages(
    command: &Command,
    source: &str,
    words: &mut BTreeMap<String, String>,
    dir: &Path,
) -> anyhow::Result<()> {
    let shown = || command.get_subcommands().filter(|sub| !sub.is_hide_set());
    for sub in shown() {
        pages(sub, source, words, dir)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let page = format!("{name}.1");
    let man = Man::new(command.clone()).title(name.to_uppercase()).source(source);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if shown().next().is_some() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(help) = command.get_after_help() {
        examples(&help.to_string()).to_writer(&mut text)?;
    }
    match words.remove(&page) {
        Some(words) => text.extend(words.into_bytes()),
        None => text.extend(b".SH SEE ALSO\n.BR xds-sync (1)\n"),
    }
    fs::write(dir.join(page), text)?;
    Ok(())
}

/// What help ends with, line by line as it stands there.
fn examples(help: &str) -> Roff {
    let mut roff = Roff::new();
    let (notes, examples) = match help.split_once("Examples:\n") {
        Some((notes, examples)) => (notes.trim_end(), examples),
        None => (help, ""),
    };
    for (title, lines) in [("NOTES", notes), ("EXAMPLES", examples)] {
        if !lines.is_empty() {
            roff.control("SH", [title]);
            roff.control("nf", []);
            for line in lines.lines() {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            roff.control("fi", []);
        }
    }
    roff
}

fn words() -> anyhow::Result<BTreeMap<String, String>> {
    let mut words = BTreeMap::new();
    for entry in fs::read_dir(WORDS).with_context(|| format!("reading {WORDS}: call this at the top"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "roff") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            words.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(words)
}

fn with_files(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        match FILES.iter().find(|(mark, _)| *mark == line) {
            Some((_, file)) => {
                let mut roff = Roff::new();
                roff.control("nf", []);
                for line in file.lines() {
                    roff.text([roman(line)]);
                }
                roff.control("fi", []);
                lines.push_str(&roff.render());
            }
            None => {
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    lines
}
