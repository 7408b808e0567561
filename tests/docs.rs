//! What the documents promise to be held by a test is: every test and file that they name exists.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sources::sources;

/// Names of functions and modules, and macros' made names, as words of all sources.
fn names(files: &[PathBuf]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for part in text.split("fn ").skip(1) {
            names.insert(part.chars().take_while(|&c| c.is_ascii_alphanumeric() || c == '_').collect());
        }
    }
    names
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_test_and_file_that_is_named_exists() {
    let files: Vec<PathBuf> = ["src", "tests"].iter().flat_map(|dir| sources(Path::new(dir))).collect();
    let names = names(&files);
    let mut checked = 0;
    for document in ["docs/security.md", "docs/safety.md"] {
        let text = fs::read_to_string(document).unwrap();
        // The last column of a table, and what is in parentheses beside a promise.
        for word in quoted(&text) {
            let is_file = word.ends_with(".rs");
            let is_test = word.matches('_').count() > 1
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_file {
                let is_there = files.iter().any(|file| file.ends_with(word));
                assert!(is_there, "{document} names {word}, which is not there");
            } else if is_test {
                assert!(names.contains(word), "{document} names the test {word}, which is not there");
            }
            checked += usize::from(is_file || is_test);
        }
    }
    assert!(checked > 100, "only {checked} names were found");
}

/// The first commands of README.md stand in a block that can be pasted into a shell as it is.
#[test]
fn the_first_commands_can_be_pasted() {
    let text = fs::read_to_string("README.md").unwrap();
    let block = text.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let commands: Vec<&str> = block.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(commands, ["scripts/demo", "scripts/test"]);
    for command in commands {
        let mode = fs::metadata(command).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{command} cannot be executed");
    }
    let syntax = std::process::Command::new("bash").args(["-n", "-c", block]).status().unwrap();
    assert!(syntax.success());
}

/// The table below a heading of a document: the first cell of each row.
fn first_cells(text: &str, heading: &str) -> Vec<String> {
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    rows.filter(|cell| !cell.starts_with("--")).skip(1).map(str::to_owned).collect()
}

/// What an administrator looks up at night is what the program says: every exit code, and messages that there are.
#[test]
fn troubleshooting_knows_every_exit_code_and_no_message_that_is_not_there() {
    let text = fs::read_to_string("docs/troubleshooting.md").unwrap();
    let codes = fs::read_to_string("src/report/exit.rs").unwrap();
    let codes: BTreeSet<&str> = codes
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": u8 = ")?.1.strip_suffix(';'))
        .collect();
    assert!(codes.len() > 12, "{codes:?}");
    let listed = first_cells(&text, "By exit code");
    assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), codes);

    // A literal may go on in the next line.
    let all: String =
        sources(Path::new("src")).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let all = all.split("\\\n").map(str::trim_start).collect::<String>();
    let messages = first_cells(&text, "By message");
    assert!(messages.len() > 10, "{messages:?}");
    for message in messages {
        let message = message.trim_matches('`');
        assert!(all.contains(message), "no source says {message:?}");
    }
}

/// What an administrator copies into Prometheus is what Prometheus takes, and asks for metrics that there are.
#[test]
fn prometheus_takes_what_is_written_for_it() {
    let text = fs::read_to_string("docs/monitoring.md").unwrap();
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [scrape, rules] = blocks[..] else { panic!("{blocks:?}") };
    let dir = tempfile::tempdir().unwrap();
    for (check, content) in [(&["config", "--syntax-only"][..], scrape), (&["rules"], rules)] {
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, content).unwrap();
        let promtool = std::process::Command::new("promtool").arg("check").args(check).arg(&file).output();
        let output = promtool.expect("promtool is there: scripts/setup test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let metrics = fs::read_to_string("src/report/metrics/tests.rs").unwrap();
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    for name in words.filter(|word| word.starts_with("xds_sync_")) {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "there is no metric {name}");
    }
    let known = metrics.lines().filter_map(|line| line.trim().strip_prefix("# TYPE ")?.split(' ').next());
    for name in known {
        let short = name.rsplit_once("last_run_").map_or(name, |(_, rest)| rest);
        let short = short.trim_start_matches("xds_sync_directory_");
        assert!(text.contains(short), "docs/monitoring.md does not speak of {name}");
    }
}
