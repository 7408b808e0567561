//! `[[directory]]`, and XiVO's four.

use std::path::Path;
use std::time::Duration;

use super::file::RawFile;
use super::nodes::{prefix, typed_name};
use super::overlap::overlap;
use super::{Directory, convert};
use crate::model::{ConflictPolicy, DeletePolicy, Direction};
use crate::toml::{Fields, Raw};
use crate::toml::{Mistakes, Origin, suggestion};
use crate::toml::{Notes, Reader};

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
    let mut mistakes = Mistakes::default();
    let raw = RawFile::parse(Path::new("built-in"), BUILT_IN.as_bytes(), &mut mistakes).directories;
    raw.into_iter()
        .map(|(fields, _)| {
            let fields = fields.into_iter().map(|(key, (raw, _))| (key, (raw, Origin::Default)));
            (fields.collect(), Origin::Default)
        })
        .collect()
}

/// The directories, and the names of all that were typed, even those that something is wrong with. `labels` are
/// those of nodes; none, where no node is configured yet.
pub(super) fn check(
    raw: Vec<(Fields, Origin)>,
    labels: &Option<Vec<String>>,
    notes: &mut Notes,
) -> (Vec<Directory>, Vec<String>) {
    let names = raw.iter().filter_map(|(fields, _)| typed_name(fields)).collect();
    let mut directories: Vec<(Directory, Origin)> = Vec::new();
    for (fields, origin) in raw {
        let mut reader = Reader::new(prefix("directory", &fields), fields, origin, notes);
        let at = reader.origin_of("name");
        let path_at = reader.origin_of("path");
        let exclude_at = reader.origin_of("exclude");
        let places = ["labels", "delete", "conflict"].map(|key| reader.origin_of(key));
        let directory = read(&mut reader);
        reader.finish();
        let Some(directory) = directory else { continue };
        warn(&directory, &places, labels, &mut notes.warnings);
        let name = &directory.name;
        if let Some((_, first)) = directories.iter().find(|(known, _)| known.name == *name) {
            notes.mistakes.add(&at, format!("there is a directory '{name}' already, at {first}"));
            continue;
        }
        for glob in &directory.exclude {
            if let Some(why) = outside(glob, &directory.path) {
                notes
                    .mistakes
                    .add(&exclude_at, format!("directory.{name}.exclude: '{glob}' excludes nothing: {why}"));
            }
        }
        for (known, _) in &directories {
            if let Some(why) = overlap((known, &known.path), (&directory, &directory.path)) {
                notes.mistakes.add(&path_at, why);
            }
        }
        directories.push((directory, at));
    }
    (directories.into_iter().map(|(directory, _)| directory).collect(), names)
}

/// Why a pattern that was written as a path of the host matches nothing, if it was.
fn outside(glob: &str, root: &Path) -> Option<String> {
    let inside = Path::new(glob).strip_prefix(root).ok()?;
    let end = if glob.ends_with('/') { "/" } else { "" };
    Some(match inside.as_os_str().is_empty() {
        true => "it is the directory itself".to_owned(),
        false => format!("'/' at the beginning is the directory's root; write '/{}{end}'", inside.display()),
    })
}

/// Warns of settings without effect. `places` are those of `labels`, `delete` and `conflict`.
fn warn(directory: &Directory, places: &[Origin; 3], labels: &Option<Vec<String>>, warnings: &mut Mistakes) {
    let name = &directory.name;
    let [labels_at, delete_at, conflict_at] = places;
    for label in &directory.labels {
        if let Some(labels) = labels.as_ref().filter(|labels| !labels.contains(label)) {
            let meant = suggestion(label, labels.iter().map(String::as_str));
            warnings
                .add(labels_at, format!("directory.{name}.labels: no node has the label '{label}'{meant}"));
        }
    }
    if directory.exclude.iter().any(|glob| matches!(glob.trim_matches('/'), "*" | "**")) {
        warnings.add(&places[0], format!("directory.{name}.exclude: everything is excluded"));
    }
    let (both, mirror) = (directory.direction == Direction::Both, directory.delete == DeletePolicy::Mirror);
    if both && mirror {
        let message = "\"mirror\" is for pushed directories; both ways it is as \"propagate\"";
        warnings.add(delete_at, format!("directory.{name}.delete: {message}"));
    }
    if !both && directory.conflict != ConflictPolicy::Main {
        let message = "a pushed directory has no conflicts; Main's version goes to the nodes";
        warnings.add(conflict_at, format!("directory.{name}.conflict: {message}"));
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Directory> {
    let text = |text: &str| Raw::Text(text.to_owned());
    let name = reader.required("name", convert::name);
    let path = reader.required("path", convert::root);
    let directions = [("push", Direction::Push), ("both", Direction::Both)];
    let direction = reader.get("direction", text("push"), |raw| convert::word(raw, &directions));
    let settle = if direction == Some(Direction::Both) { SETTLE_BOTH } else { SETTLE };
    let deletes = [
        ("propagate", DeletePolicy::Propagate),
        ("keep", DeletePolicy::Keep),
        ("mirror", DeletePolicy::Mirror),
    ];
    let delete = reader.get("delete", text("propagate"), |raw| convert::word(raw, &deletes));
    let exclude = reader.list("exclude", convert::glob);
    let reload = reader.list("reload", convert::reload);
    let labels = reader.list("labels", convert::name);
    let settle: Option<Duration> = reader.get("settle", text(settle), convert::settle);
    let conflicts = [
        ("main", ConflictPolicy::Main),
        ("node", ConflictPolicy::Node),
        ("newer", ConflictPolicy::Newer),
        ("manual", ConflictPolicy::Manual),
    ];
    let conflict = reader.get("conflict", text("main"), |raw| convert::word(raw, &conflicts));
    let max_delete = reader.get("max_delete", text("50%"), convert::max_loss);
    let max_change = reader.get("max_change", text("50%"), convert::max_loss);
    let max_add = reader.get("max_add", text("20 GiB"), convert::max_add);
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
        max_change: max_change?,
        max_add: max_add?,
        owner,
    })
}
