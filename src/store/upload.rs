//! What a node uploads: what it changed in two-way directories, signed by the node.

use serde::{Deserialize, Serialize};

use super::envelope::Signed;
use super::names::is_name;
use super::tree::{Bounds, Fields, Lines, Parts, read_lines};
use super::{Sha256, StoreError};
use crate::model::bounded::at_most;
use crate::model::{Entry, RelPathBuf};

/// Most directories of an upload.
const MAX_DIRECTORIES: usize = 1_000;

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The format.
    pub v: u32,
    /// The store's ULID.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Its number; 1 is the first.
    pub seq: u64,
    /// When, in RFC 3339.
    pub time: String,
    /// The publication that the node had when it changed this.
    pub on: On,
    /// What changed where.
    #[serde(deserialize_with = "at_most::<MAX_DIRECTORIES, _, _>")]
    pub directories: Vec<UploadedDirectory>,
}

/// A publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct On {
    pub epoch: u64,
    pub seq: u64,
}

/// A directory of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadedDirectory {
    /// Its name.
    pub name: String,
    /// The object with the changes, in the node's area; `None`: none.
    pub changes: Option<Sha256>,
    /// Bytes of that object.
    pub changes_len: u64,
}

impl Signed for Upload {
    const NAMESPACE: &'static str = "xds-sync-node@v1";
    const WHAT: &'static str = "the upload";
}

impl Upload {
    /// What a signature does not say.
    pub fn check(&self) -> Result<(), StoreError> {
        let wrong = self.directories.iter().find(|directory| {
            let others = self.directories.iter().filter(|other| other.name == directory.name).count();
            !is_name(&directory.name) || others > 1
        });
        match wrong {
            Some(directory) => Err(StoreError::Tampered(format!(
                "the upload {} of {}: {:?} is no name of a directory, or that of two",
                self.seq, self.node, directory.name
            ))),
            None => Ok(()),
        }
    }
}

/// What became of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedChange {
    /// Where.
    pub path: RelPathBuf,
    /// What Main's publication had there; none: nothing.
    pub expected: Option<Entry>,
    /// What is there now; none: nothing.
    pub now: Option<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: RelPathBuf,
    expected: Option<Fields>,
    now: Option<Fields>,
}

/// Changes, in the order of their paths, as an object. `parts` has those of all new contents.
pub fn encode(changes: &[UploadedChange], parts: &Parts) -> Result<Vec<u8>, StoreError> {
    let mut lines = Lines::new()?;
    for change in changes {
        let expected = change.expected.as_ref().map(|entry| Fields::of(entry, None)).transpose()?;
        let now = change.now.as_ref().map(|entry| Fields::of(entry, Some(parts))).transpose()?;
        lines.push(&Line { path: change.path.clone(), expected: expected.flatten(), now: now.flatten() })?;
    }
    lines.finish()
}

/// Reads changes from an object whose name was found to be its hash, and the parts of the new contents.
pub fn decode(object: &[u8]) -> Result<(Vec<UploadedChange>, Parts), StoreError> {
    let mut changes: Vec<UploadedChange> = Vec::new();
    let mut contents = Parts::default();
    let mut bounds = Bounds::default();
    read_lines(object, |line| {
        let Line { path, expected, now } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if changes.last().is_some_and(|last| last.path >= path) {
            return Err("paths are out of order".to_owned());
        }
        if expected.is_none() && now.is_none() {
            bounds.count(&path)?;
        }
        let mut read = |fields: Option<Fields>| -> Result<_, &'static str> {
            let found = fields.map(|fields| bounds.checked(&path, fields)).transpose()?;
            match found {
                Some((entry, _)) if entry.is_opaque() => Err("a change is held"),
                found => Ok(found),
            }
        };
        let expected = read(expected)?.map(|(entry, _)| entry);
        let now = match read(now)? {
            Some((Entry::File(file), parts)) => {
                contents.insert(file.digest, parts.ok_or("a file has no parts")?);
                Some(Entry::File(file))
            }
            now => now.map(|(entry, _)| entry),
        };
        changes.push(UploadedChange { path, expected, now });
        Ok(())
    })?;
    Ok((changes, contents))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::tree::tests::any_tree;
    use crate::store::tree::tests::{parts_of, told};

    proptest! {
        #[test]
        fn changes_are_read_as_they_are_written(before in any_tree(), after in any_tree()) {
            let mut all: BTreeMap<_, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
            let [old, new] = [&before, &after].map(told);
            for (path, entry) in old.iter() {
                all.entry(path.to_owned()).or_default().0 = Some(entry.clone());
            }
            for (path, entry) in new.iter() {
                all.entry(path.to_owned()).or_default().1 = Some(entry.clone());
            }
            let fine = |path: &RelPathBuf, entry: &Option<Entry>| match entry {
                Some(Entry::Symlink(link)) => !link.escapes(path),
                Some(entry) => !entry.is_opaque(),
                None => true,
            };
            let changes: Vec<UploadedChange> = all
                .into_iter()
                .filter(|(path, _)| !path.names().any(crate::model::reserved::is_reserved))
                .filter(|(path, (expected, now))| fine(path, expected) && fine(path, now))
                .map(|(path, (expected, now))| UploadedChange { path, expected, now })
                .collect();
            let object = encode(&changes, &parts_of(&new)).unwrap();
            let (found, parts) = decode(&object).unwrap();
            for change in &changes {
                if let Some(Entry::File(file)) = &change.now {
                    prop_assert!(parts.get(&file.digest).is_some());
                }
            }
            prop_assert_eq!(found, changes);
        }
    }

    #[test]
    fn lines_that_no_node_of_ours_writes_are_refused() {
        for line in [
            r#"{"path":"a","expected":null,"now":{"type":"held"}}"#,
            r#"{"path":"../a","expected":null,"now":{"type":"dir","mode":"0755"}}"#,
            r#"{"path":"a","expected":null,"now":{"type":"symlink","link":"/etc"}}"#,
            r#"{"path":"a","now":{"type":"dir","mode":"0755"},"more":1}"#,
            r#"{"path":"b","expected":null,"now":null}
{"path":"a","expected":null,"now":null}"#,
        ] {
            let object = zstd::bulk::compress(format!("{line}\n").as_bytes(), 3).unwrap();
            assert!(matches!(decode(&object), Err(StoreError::Tampered(_))), "{line}");
        }
    }

    #[test]
    fn what_says_nothing_is_counted_too() {
        // Lines that are alike take next to nothing in an object, and memory when they are read.
        let mut object = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let deep = vec!["x".repeat(250); 10].join("/");
        for number in 0..=(128 << 20) / deep.len() {
            let line = format!("{{\"path\":\"{deep}/{number:08}\",\"expected\":null,\"now\":null}}\n");
            std::io::Write::write_all(&mut object, line.as_bytes()).unwrap();
        }
        let error = decode(&object.finish().unwrap()).unwrap_err();
        assert!(error.detail().contains("too many"), "{error:?}");
    }

    #[test]
    fn an_upload_names_each_directory_once() {
        let directory =
            |name: &str| UploadedDirectory { name: name.to_owned(), changes: None, changes_len: 0 };
        let upload = |directories: &[&str]| Upload {
            v: 1,
            cluster: "c".to_owned(),
            node: "mds1".to_owned(),
            seq: 1,
            time: String::new(),
            on: On { epoch: 1, seq: 1 },
            directories: directories.iter().map(|name| directory(name)).collect(),
        };
        assert!(upload(&["a", "b"]).check().is_ok());
        assert!(upload(&["a", "a"]).check().is_err());
        assert!(upload(&["../a"]).check().is_err());
    }
}
