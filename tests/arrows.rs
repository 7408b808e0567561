//! Holds the arrows between the folders of `src`: who may use whom.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sources::sources;

/// Module → modules that it may use. What is not listed here does not exist.
const ARROWS: [(&str, &[&str]); 22] = [
    ("model", &[]),
    ("fault", &[]),
    ("threads", &["fault"]),
    ("durable", &["fault"]),
    ("disk", &["durable", "fault", "model"]),
    ("toml", &["model"]),
    ("config", &["toml", "model", "snapshot"]),
    ("snapshot", &["disk", "durable", "fault", "threads", "model"]),
    ("plan", &["model"]),
    ("transfer", &["disk", "fault", "threads", "model"]),
    ("reload", &["model"]),
    ("report", &["model"]),
    ("node", &["snapshot", "transfer", "reload", "disk", "durable", "fault", "threads", "toml", "model"]),
    ("state", &["durable", "fault", "model"]),
    ("fetch", &[]),
    ("discovery", &["config", "fetch", "state", "model"]),
    ("enroll", &["config", "durable", "fetch", "node", "model"]),
    (
        "sync",
        &[
            "config", "snapshot", "plan", "transfer", "reload", "report", "node", "state", "disk", "fault",
            "threads", "model",
        ],
    ),
    ("hub", &["durable", "enroll"]),
    ("host", &[]),
    ("cli", &["*"]),
    ("main", &["*"]),
];

/// Where the asynchronous runtime may appear.
const ASYNC: [&str; 4] = ["node", "discovery", "hub", "cli"];

/// The module that a file belongs to: the first part of its path below `src`.
fn module(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Without comments, and without the tests at a file's end, which may use what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let is_test = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs" || name == "samples.rs");
    if is_test {
        return String::new();
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn all_code() -> Vec<(PathBuf, String, String)> {
    let files = sources(Path::new("src"));
    assert!(files.len() > 40, "the sources were not found");
    files.into_iter().map(|path| (path.clone(), module(&path), code(&path))).collect()
}

#[test]
fn every_use_follows_an_arrow() {
    for (path, module, code) in all_code() {
        if module == "lib" {
            continue;
        }
        let allowed = ARROWS.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{} is in no known module", path.display()));
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let fine = used == module
                || used.is_empty()
                || allowed.contains(&used.as_str())
                || allowed.contains(&"*");
            assert!(fine, "{}: {module} must not use {used}", path.display());
        }
    }
}

#[test]
fn the_runtime_stays_where_it_belongs() {
    for (path, module, code) in all_code() {
        let used = code.contains("tokio::") || code.contains("async fn");
        assert!(!used || ASYNC.contains(&module.as_str()), "{} is asynchronous", path.display());
    }
}

#[test]
fn only_host_and_cli_ask_the_machine() {
    let questions = ["SystemTime::now", "std::env::", "env::var", "OsRng", "/proc/self/exe"];
    for (path, module, code) in all_code() {
        if !["host", "cli", "main"].contains(&module.as_str()) {
            for question in questions {
                assert!(!code.contains(question), "{} asks {question}", path.display());
            }
        }
    }
}

#[test]
fn only_cli_prints() {
    for (path, module, code) in all_code() {
        let prints = ["println!", "eprintln!", "print!("].iter().any(|print| code.contains(print));
        assert!(!prints || module == "cli", "{} prints", path.display());
    }
}

#[test]
fn every_module_is_in_the_map() {
    let map = fs::read_to_string("docs/architecture.md").unwrap();
    let modules: BTreeSet<String> = all_code().into_iter().map(|(_, module, _)| module).collect();
    for module in modules.iter().filter(|module| *module != "lib") {
        assert!(map.contains(&format!("`{module}")), "docs/architecture.md does not speak of {module}");
    }
}
