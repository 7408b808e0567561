//! Which directories came to this node last: one that comes no more is told of once. Its files stay, and nobody keeps them in
//! step.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::durable::{self, Options, sealed};
use crate::model::Direction;
use crate::model::escape::clean;
use crate::report::{Problem, Stage};
use crate::store::head::{Head, HeadDirectory};

/// Where their names are kept.
pub(super) struct Had(PathBuf);

impl Had {
    pub(super) fn in_dir(dir: &Path) -> Had {
        Had(dir.join("directories.json"))
    }

    /// Says which of those that came last come no more.
    pub(super) fn missing(&self, head: &Head, now: &[&HeadDirectory], labels: &[String]) -> Vec<Problem> {
        let had: BTreeSet<String> = self.read();
        let missing = had.into_iter().filter(|name| !now.iter().any(|directory| directory.name == *name));
        missing.map(|name| problem(head, &name, labels)).collect()
    }

    /// These come now.
    pub(super) fn keep(&self, now: &[&HeadDirectory]) {
        let now: BTreeSet<String> = now.iter().map(|directory| directory.name.clone()).collect();
        if now != self.read() {
            // Without it nothing is told of what comes no more.
            let options = Options { sync: false, ..Options::PRIVATE };
            let _ = sealed::seal(&now).and_then(|bytes| Ok(durable::replace(&self.0, &bytes, options)?));
        }
    }

    fn read(&self) -> BTreeSet<String> {
        let bytes = durable::read(&self.0).ok().flatten();
        bytes.and_then(|bytes| sealed::open(&bytes).ok()).unwrap_or_default()
    }
}

fn problem(head: &Head, name: &str, labels: &[String]) -> Problem {
    let published = head.directories.iter().find(|directory| directory.name == name);
    let why = match published {
        None => format!("{} publishes it no more", clean(&head.main)),
        Some(directory) => format!(
            "it is for {}, and this node has {}",
            words(&directory.labels, "all"),
            words(labels, "no label")
        ),
    };
    let both = match published.is_none_or(|directory| directory.direction == Direction::Both) {
        true => ", and nothing that is recorded there goes to Main",
        false => "",
    };
    let detail = format!("{name} comes here no more ({why}): its files stay as they are{both}");
    Problem::warning(Stage::Config, detail)
}

fn words(labels: &[String], none: &str) -> String {
    match labels {
        [] => none.to_owned(),
        labels => format!("the labels {}", labels.join(", ")),
    }
}
