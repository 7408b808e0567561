//! Holds the arrows between the folders of `src`: who may use whom. The sources are parsed, so that every line of every
//! module is seen, and only what is compiled for tests alone is not.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "sources/modules.rs"]
mod modules;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use modules::{Module, Names, edges, on_circles};
use sources::sources;

/// Module → modules that it may use. What is not listed here does not exist.
const ARROWS: [(&str, &[&str]); 31] = [
    ("model", &[]),
    ("fault", &[]),
    ("threads", &["fault"]),
    ("version", &[]),
    ("durable", &["fault"]),
    ("disk", &["durable", "fault", "model"]),
    ("toml", &["model"]),
    ("config", &["toml", "model", "snapshot"]),
    ("snapshot", &["disk", "durable", "fault", "threads", "model"]),
    ("plan", &["model"]),
    ("transfer", &["disk", "fault", "threads", "model"]),
    ("reload", &["model"]),
    ("report", &["model"]),
    ("watch", &["disk", "snapshot", "model"]),
    (
        "node",
        &[
            "watch", "snapshot", "transfer", "reload", "disk", "durable", "fault", "threads", "toml",
            "version", "model",
        ],
    ),
    ("state", &["durable", "fault", "model"]),
    ("fetch", &[]),
    ("discovery", &["config", "fetch", "state", "model"]),
    ("signing", &[]),
    ("store", &["durable", "fault", "fetch", "signing", "threads", "transfer", "version", "model"]),
    ("enroll", &["config", "disk", "durable", "fetch", "node", "signing", "state", "model"]),
    (
        "sync",
        &[
            "config", "snapshot", "plan", "transfer", "reload", "report", "node", "state", "disk", "fault",
            "threads", "model",
        ],
    ),
    ("hub", &["durable", "enroll", "report", "store", "model"]),
    ("host", &[]),
    ("logging", &["model"]),
    (
        "site",
        &[
            "config",
            "discovery",
            "disk",
            "enroll",
            "host",
            "model",
            "node",
            "reload",
            "report",
            "snapshot",
            "state",
            "store",
            "sync",
            "threads",
            "transfer",
            "watch",
        ],
    ),
    (
        "daemon",
        &["config", "model", "node", "record", "report", "site", "snapshot", "state", "sync", "watch"],
    ),
    (
        "follow",
        &[
            "config", "disk", "durable", "fault", "model", "node", "plan", "record", "reload", "report",
            "site", "snapshot", "state", "store", "sync", "toml", "transfer", "version",
        ],
    ),
    ("record", &["logging", "model", "report", "state"]),
    ("cli", &["*"]),
    ("main", &["*"]),
];

/// Where the asynchronous runtime may appear.
const ASYNC: [&str; 5] = ["node", "discovery", "hub", "store", "cli"];

/// What only `host` and `cli` ask the machine for. A leading dot stands for a method.
const QUESTIONS: [&str; 13] = [
    "SystemTime::now",
    "Instant::now",
    ".elapsed",
    "OffsetDateTime::now",
    "std::env::",
    "env::var",
    "process::id",
    "process::getpid",
    "/proc/self/exe",
    "OsRng",
    "SysRng",
    "rand::rng",
    "thread_rng",
];

/// Who asks all the same, and why.
const ASKS: [(&str, &str, &str); 9] = [
    ("node::byte_stream", "Instant::now", "the deadline of a wait, on the clock that nobody sets"),
    ("node::connection", ".elapsed", "how long a node has been waited for, on the clock that nobody sets"),
    ("node::connection", "Instant::now", "likewise"),
    ("node::ssh::control", "process::id", "a name for a socket that no other process has"),
    ("reload", "Instant::now", "likewise"),
    ("reload::command", "Instant::now", "likewise"),
    (
        "sync::rendezvous",
        ".elapsed",
        "how long the first node has waited for the others, on the clock that nobody sets",
    ),
    ("sync::rendezvous", "Instant::now", "likewise"),
    ("snapshot::busy", "process::id", "its own open files are not those of a recording"),
];

/// Uses that close a circle within a module, and why they stay: without them there is no circle.
const CIRCLES: [(&str, &str, &str); 1] =
    [("config::layers", "config::check", "where the values come from (`Sources`)")];

fn all() -> &'static [Module] {
    static ALL: OnceLock<Vec<Module>> = OnceLock::new();
    let all = ALL.get_or_init(modules::modules);
    assert!(all.len() > 40, "the sources were not found");
    all
}

#[test]
fn every_file_is_seen_or_is_for_tests() {
    let seen: BTreeSet<PathBuf> = all().iter().map(|module| module.file.clone()).collect();
    for file in sources(Path::new("src")) {
        let is_test = file.components().any(|part| part.as_os_str() == "tests")
            || file.file_name().is_some_and(|name| name == "tests.rs")
            // Values that tests of several modules are made of.
            || file.ends_with("samples.rs")
            || file.ends_with("test_tls.rs")
            // A store for unit tests.
            || file.ends_with("objects/memory.rs");
        assert!(seen.contains(&file) != is_test, "{}", file.display());
    }
}

#[test]
fn every_use_follows_an_arrow() {
    for module in all().iter().filter(|module| module.top() != "lib") {
        let (file, top) = (module.file.display(), module.top());
        let allowed = ARROWS.iter().find(|(name, _)| *name == top);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{file} is in no known module"));
        for used in module.uses.iter().filter(|used| used[0] == "crate") {
            let used = used.get(1).map_or("everything", String::as_str);
            let fine = used == top || allowed.contains(&used) || allowed.contains(&"*");
            assert!(fine, "{file}: {top} must not use {used}");
        }
    }
}

#[test]
fn no_module_goes_in_circles() {
    let edges = edges(all()).into_iter().filter(|(from, to)| from[1] == to[1]);
    let mut within: BTreeSet<_> = edges.collect();
    for (from, to, _) in CIRCLES {
        let is_it =
            |(user, used): &(Names, Names)| user[1..].join("::") == from && used[1..].join("::") == to;
        let edge = within.iter().find(|edge| is_it(edge)).cloned();
        let edge = edge.unwrap_or_else(|| panic!("{from} does not use {to}: take it out of the table"));
        within.remove(&edge);
    }
    let left = on_circles(&within)
        .iter()
        .map(|(from, to)| format!("{} uses {}", from.join("::"), to.join("::")))
        .collect::<Vec<_>>();
    assert!(left.is_empty(), "circles of imports:\n{}", left.join("\n"));
}

#[test]
fn the_runtime_stays_where_it_belongs() {
    for module in all() {
        let is_async = module.has_async || module.mentions("tokio::");
        assert!(!is_async || ASYNC.contains(&module.top()), "{} is asynchronous", module.file.display());
    }
}

#[test]
fn only_host_and_cli_ask_the_machine() {
    let mut asked = BTreeSet::new();
    for module in all().iter().filter(|module| !["host", "cli", "main"].contains(&module.top())) {
        let questions = QUESTIONS.into_iter().filter(|question| module.mentions(question));
        asked.extend(questions.map(|question| (module.path[1..].join("::"), question)));
    }
    let known: BTreeSet<_> = ASKS.iter().map(|(who, what, _)| ((*who).to_owned(), *what)).collect();
    let new: Vec<_> = asked.difference(&known).collect();
    let gone: Vec<_> = known.difference(&asked).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "they ask, and must not: {new:?}\nto be taken out of the table: {gone:?}"
    );
}

/// What resolves a path from `/`, or from the directory that a process happens to be in, where a root or anything in one
/// could be meant. `disk::walk` alone does, step by step.
const BY_PATH: [&str; 16] = [
    ".canonicalize",
    ".symlink_metadata",
    ".read_dir",
    ".exists",
    "fs::canonicalize",
    "fs::create_dir",
    "fs::metadata",
    "fs::symlink_metadata",
    "fs::read_dir",
    "fs::remove_dir_all",
    "fs::rename",
    "fs::DirBuilder",
    "File::open",
    "fs::open",
    "fs::lstat",
    "fs::CWD",
];

/// Who resolves paths that are of no root, and why.
const PATHS_OF_NO_ROOT: [(&str, &str, &str); 7] = [
    ("disk::walk", "fs::open", "`/`, from where every walk begins"),
    ("node::local", "fs::DirBuilder", "caches of digests, in the state directory"),
    ("node::local", "fs::read_dir", "likewise"),
    ("node::local", "fs::symlink_metadata", "likewise"),
    ("snapshot::busy", "fs::metadata", "open files of processes, in /proc"),
    ("snapshot::busy", "fs::read_dir", "likewise"),
    ("snapshot::cache", "File::open", "caches of digests, in the state directory"),
];

#[test]
fn nothing_of_a_root_is_resolved_by_path() {
    let of_roots = |module: &Module| {
        let path = module.path[1..].join("::");
        [
            "disk",
            "snapshot",
            "transfer",
            "node::local",
            "node::agent",
            "node::accept",
            "sync",
            "enroll::roots",
        ]
        .iter()
        .any(|root| path == *root || path.starts_with(&format!("{root}::")))
    };
    let mut found = BTreeSet::new();
    for module in all().iter().filter(|module| of_roots(module)) {
        let mentions = BY_PATH.into_iter().filter(|way| match way.strip_prefix('.') {
            Some(method) => module.methods.contains(method),
            None => module
                .uses
                .iter()
                .any(|used| format!("{}::", used.join("::")).contains(&format!("::{way}::"))),
        });
        found.extend(mentions.map(|way| (module.path[1..].join("::"), way)));
    }
    let known: BTreeSet<_> = PATHS_OF_NO_ROOT.iter().map(|(who, way, _)| ((*who).to_owned(), *way)).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "they resolve a path, and must go by what is held: {new:?}\nto be taken out of the table: {gone:?}"
    );
}

#[test]
fn only_cli_prints() {
    for module in all() {
        let print = ["print", "println", "eprint", "eprintln", "dbg"]
            .iter()
            .find(|name| module.macros.contains(**name));
        assert!(print.is_none() || module.top() == "cli", "{} prints", module.file.display());
    }
}

#[test]
fn every_module_is_in_the_map() {
    let map = fs::read_to_string("docs/architecture.md").unwrap();
    let modules: BTreeSet<String> = all().iter().map(|module| module.top().to_owned()).collect();
    for module in modules.iter().filter(|module| *module != "lib") {
        assert!(map.contains(&format!("`{module}")), "docs/architecture.md does not speak of {module}");
    }
}

/// The reader itself: what it must see, wherever it stands.
#[test]
fn groups_ancestors_and_what_stands_below_tests_are_seen() {
    let text = "
        #[cfg(test)]
        mod tests;
        use crate::{a::One, b as two};
        #[cfg(test)]
        use crate::never;
        fn f() {
            super::super::c::g(two::h());
            println!(\"{}\", Instant::now().elapsed());
        }
        #[cfg(test)]
        mod more { use crate::never; }
        fn g(_: crate::d::Last) {}
    ";
    let module = modules::parsed(text, &["crate", "x", "y"]);
    let uses: Vec<String> = module.uses.iter().map(|path| path.join("::")).collect();
    for used in ["crate::a::One", "crate::b", "crate::c::g", "crate::b::h", "crate::d::Last"] {
        assert!(uses.iter().any(|found| found == used), "{used}: {uses:?}");
    }
    assert!(!uses.iter().any(|used| used.contains("never")), "{uses:?}");
    assert!(
        module.mentions("Instant::now") && module.mentions(".elapsed") && module.macros.contains("println")
    );
}
