//! `[[directory]]`, and XiVO's four.

use std::path::Path;
use std::time::Duration;

use super::mistake::Origin;
use super::nodes::prefix;
use super::raw::{Fields, Raw};
use super::reader::{Notes, Reader};
use super::{Directory, convert};
use crate::model::{ConflictPolicy, DeletePolicy, Direction};

/// How old a pushed file must be: an editor's save and a web upload are over by then.
const SETTLE: &str = "2s";
/// The same for both-ways directories, where recordings pause while they grow.
const SETTLE_BOTH: &str = "10s";

/// What is kept the same when nothing is configured.
const BUILT_IN: &str = r#"
[[directory]]
name = "dialplan"
path = "/etc/asterisk/extensions_extra.d"
reload = ["dialplan"]
[[directory]]
name = "moh"
path = "/var/lib/xivo/moh"
reload = ["moh"]
[[directory]]
name = "sounds"
path = "/var/lib/xivo/sounds"
[[directory]]
name = "recordings"
path = "/var/lib/xivo/sounds/recordings"
direction = "both"
"#;

/// The built-in directories, as typed.
pub(super) fn built_in() -> Vec<(Fields, Origin)> {
    let mut mistakes = super::Mistakes::default();
    let raw = super::raw::parse(Path::new("built-in"), BUILT_IN, &mut mistakes).directories;
    raw.into_iter()
        .map(|(fields, _)| {
            let fields = fields.into_iter().map(|(key, (raw, _))| (key, (raw, Origin::Default)));
            (fields.collect(), Origin::Default)
        })
        .collect()
}

pub(super) fn check(raw: Vec<(Fields, Origin)>, home: &Path, notes: &mut Notes) -> Vec<Directory> {
    let mut directories: Vec<(Directory, Origin)> = Vec::new();
    for (fields, origin) in raw {
        let mut reader = Reader::new(prefix("directory", &fields), fields, origin, notes);
        let at = reader.origin_of("name");
        let path_at = reader.origin_of("path");
        let directory = read(&mut reader, home);
        reader.finish();
        let Some(directory) = directory else { continue };
        let name = &directory.name;
        if let Some((_, first)) = directories.iter().find(|(known, _)| known.name == *name) {
            notes.mistakes.add(&at, format!("there is a directory '{name}' already, at {first}"));
            continue;
        }
        for (known, _) in &directories {
            if let Some(why) = overlap(known, &directory) {
                notes.mistakes.add(&path_at, why);
            }
        }
        directories.push((directory, at));
    }
    directories.into_iter().map(|(directory, _)| directory).collect()
}

fn read(reader: &mut Reader<'_>, home: &Path) -> Option<Directory> {
    let text = |text: &str| Raw::Text(text.to_owned());
    let none = || Raw::List(Vec::new());
    let name = reader.required("name", convert::name);
    let path = reader.required("path", |raw| convert::path(raw, home));
    let directions = [("push", Direction::Push), ("both", Direction::Both)];
    let direction = reader.get("direction", text("push"), |raw| convert::word(raw, &directions));
    let settle = if direction == Some(Direction::Both) { SETTLE_BOTH } else { SETTLE };
    let deletes = [
        ("propagate", DeletePolicy::Propagate),
        ("keep", DeletePolicy::Keep),
        ("mirror", DeletePolicy::Mirror),
    ];
    let delete = reader.get("delete", text("propagate"), |raw| convert::word(raw, &deletes));
    let exclude = reader.get("exclude", none(), |raw| convert::list(raw, convert::glob));
    let reload = reader.get("reload", none(), |raw| convert::list(raw, convert::reload));
    let labels = reader.get("labels", none(), |raw| convert::list(raw, convert::name));
    let settle: Option<Duration> = reader.get("settle", text(settle), convert::duration);
    let conflicts = [
        ("main", ConflictPolicy::Main),
        ("newer", ConflictPolicy::Newer),
        ("manual", ConflictPolicy::Manual),
    ];
    let conflict = reader.get("conflict", text("main"), |raw| convert::word(raw, &conflicts));
    let max_delete = reader.get("max_delete", text("50%"), convert::max_delete);
    let owner = reader.optional("owner", convert::owner);
    Some(Directory {
        name: name?,
        path: path?,
        direction: direction?,
        delete: delete?,
        exclude: exclude?,
        reload: reload?,
        labels: labels?,
        settle: settle?,
        conflict: conflict?,
        max_delete: max_delete?,
        owner,
    })
}

/// Why two directories cannot stand side by side, if they cannot.
fn overlap(known: &Directory, new: &Directory) -> Option<String> {
    if known.path == new.path {
        return Some(format!("directory '{}' has the path {} already", known.name, new.path.display()));
    }
    let nested = new.path.starts_with(&known.path) || known.path.starts_with(&new.path);
    let rules = |directory: &Directory| Directory {
        name: String::new(),
        path: Path::new("/").to_owned(),
        ..directory.clone()
    };
    (nested && rules(known) == rules(new)).then(|| {
        format!(
            "{} overlaps directory '{}' ({}) under the same rules; configure only the outer one",
            new.path.display(),
            known.name,
            known.path.display()
        )
    })
}

impl Directory {
    /// The directory `moh` as it is built in; for tests.
    #[cfg(test)]
    pub(crate) fn built_in_moh() -> Directory {
        let all = check(built_in(), Path::new("/root"), &mut Notes::default());
        all.into_iter().find(|directory| directory.name == "moh").unwrap_or_else(|| unreachable!())
    }
}
