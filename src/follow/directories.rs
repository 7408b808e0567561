//! `[[follow.directory]]` in `node.toml`: what this node takes of a directory, and whose version stays where both ends changed
//! a path. The planner goes by it; nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{name, word};
use crate::model::{ConflictPolicy, Direction, Take};
use crate::plan::Policy;
use crate::plan::both::MAX_NEW;
use crate::report::{Problem, Stage};
use crate::store::head::HeadDirectory;
use crate::toml::{Raw, Reader};

/// What a node's administrator has decided about directories, by their names. The others are as Main has them.
pub(crate) type Directories = BTreeMap<String, OwnRules>;

/// What a node's administrator has decided about one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnRules {
    /// Which changes are taken.
    pub(crate) take: Take,
    /// Whose version stays; none: as Main says for a both-ways directory, and Main's in a pushed one.
    pub(crate) conflict: Option<ConflictPolicy>,
}

impl OwnRules {
    /// Where nothing is said.
    const NONE: OwnRules = OwnRules { take: Take::ALL, conflict: None };
}

/// Reads all of them.
pub(super) fn read(follow: &mut Reader<'_>) -> Option<Directories> {
    let (mut all, mut names, mut is_right) = (Directories::new(), BTreeSet::new(), true);
    follow.tables("directory", |mut reader| {
        let at = reader.origin_of("name");
        let named = reader.required("name", name);
        let is_new = named.as_ref().is_none_or(|name| names.insert(name.clone()));
        if !is_new {
            reader.mistake(&at, "name: there is a [[follow.directory]] of that name already");
        }
        let rules = rules(&mut reader);
        reader.finish();
        match (named, rules) {
            (Some(name), Some(rules)) if is_new => drop(all.insert(name, rules)),
            _ => is_right = false,
        }
    })?;
    is_right.then_some(all)
}

fn rules(reader: &mut Reader<'_>) -> Option<OwnRules> {
    let takes_all = !reader.has("take");
    let take = reader.list("take", kind).map(|kinds| Take {
        create: takes_all || kinds.contains(&Kind::Create),
        update: takes_all || kinds.contains(&Kind::Update),
        delete: takes_all || kinds.contains(&Kind::Delete),
    });
    let is_written = reader.has("conflict");
    let conflicts = [
        ("main", ConflictPolicy::Main),
        ("node", ConflictPolicy::Node),
        ("newer", ConflictPolicy::Newer),
        ("manual", ConflictPolicy::Manual),
    ];
    let conflict = reader.optional("conflict", |raw| word(raw, &conflicts));
    (conflict.is_some() || !is_written).then_some(OwnRules { take: take?, conflict })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Update,
    Delete,
}

fn kind(raw: &Raw) -> crate::toml::Converted<Kind> {
    word(raw, &[("create", Kind::Create), ("update", Kind::Update), ("delete", Kind::Delete)])
}

/// The policy by which this node plans a directory of a publication.
pub(super) fn policy(own: &Directories, directory: &HeadDirectory) -> Policy {
    let OwnRules { take, conflict } = own.get(&directory.name).copied().unwrap_or(OwnRules::NONE);
    let of_main = match directory.direction {
        Direction::Push => ConflictPolicy::Main,
        Direction::Both => directory.conflict,
    };
    Policy {
        delete: directory.delete,
        conflict: conflict.unwrap_or(of_main),
        take,
        max_delete: directory.max_delete,
        max_change: directory.max_change,
        max_add: directory.max_add,
        max_new: MAX_NEW,
    }
}

/// Says which names are those of no directory that comes here: what was decided about them holds nowhere.
pub(super) fn unknown<'a>(
    own: &'a Directories,
    subscribed: &'a [&HeadDirectory],
) -> impl Iterator<Item = Problem> + 'a {
    let known: Vec<&str> = subscribed.iter().map(|directory| &*directory.name).collect();
    let unknown = own.keys().filter(|name| !subscribed.iter().any(|directory| directory.name == **name));
    unknown.map(move |name| {
        let known = known.join(", ");
        let detail =
            format!("node.toml: follow.directory.{name}: no such directory comes here; these do: {known}");
        Problem::warning(Stage::Config, detail)
    })
}
