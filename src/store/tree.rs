//! A tree as an object: a line of JSON for each entry, compressed.
//!
//! Only what a scan was sure of has content here. What it could not tell (busy, unreadable, special) stands as `held`: a
//! node leaves that path alone, as in a run of Main's own.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::head::octal;
use super::{PART, Sha256, StoreError};
use crate::model::reserved::is_reserved;
use crate::model::{Busy, Digest, Entry, File, Meta, Owner, RelPath, RelPathBuf, Symlink, Tree};

/// Most entries, as of any tree from elsewhere.
const MAX_ENTRIES: usize = 4_000_000;
/// Most bytes of all paths together, likewise.
const MAX_PATH_BYTES: usize = 128 << 20;
/// Most parts of all files together: 128 TiB in whole parts.
const MAX_PARTS: usize = 8_000_000;
/// Longest line: a file of 1 TiB.
const MAX_LINE: u64 = 16 << 20;
/// Level of compression.
const LEVEL: i32 = 3;
/// The largest window that is decompressed: what a hostile frame may ask of memory.
const WINDOW_LOG: u32 = 23;

/// A stretch of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An object.
    Stored {
        /// Its name.
        object: Sha256,
        /// Its length.
        len: u64,
        /// That of the content.
        plain_len: u64,
        /// Whether it is compressed.
        zstd: bool,
    },
    /// Zeros, which need no object.
    Zeros(u64),
}

impl Part {
    /// How much content it is.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        match self {
            Part::Stored { plain_len, .. } => *plain_len,
            Part::Zeros(length) => *length,
        }
    }
}

/// The parts of each content, by its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts(HashMap<Digest, Arc<[Part]>>);

impl Parts {
    /// The parts of a content; an empty one has none.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<&Arc<[Part]>> {
        self.0.get(digest)
    }

    /// Records the parts of a content.
    pub fn insert(&mut self, digest: Digest, parts: impl Into<Arc<[Part]>>) {
        self.0.insert(digest, parts.into());
    }

    /// With those of `other` that are not here yet.
    pub fn extend(&mut self, other: Parts) {
        for (digest, parts) in other.0 {
            self.0.entry(digest).or_insert(parts);
        }
    }

    /// Every part of something.
    pub fn stored(&self) -> impl Iterator<Item = &Part> {
        self.0.values().flat_map(|parts| parts.iter())
    }

    /// Every object that is a part of something.
    pub fn objects(&self) -> impl Iterator<Item = Sha256> {
        self.stored().filter_map(|part| match part {
            Part::Stored { object, .. } => Some(*object),
            Part::Zeros(_) => None,
        })
    }
}

/// A tree and where its contents are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredTree {
    /// What the directory looks like.
    pub tree: Tree,
    /// The parts of its files.
    pub parts: Parts,
}

/// An entry in JSON. Which fields there are depends on its type.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<RelPathBuf>,
    r#type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<PartFields>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Dir,
    File,
    Symlink,
    #[default]
    Held,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Mode(#[serde(with = "octal")] u16);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    plain_len: u64,
    enc: Encoding,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Raw,
    Zstd,
    Zero,
}

impl From<&Part> for PartFields {
    fn from(part: &Part) -> PartFields {
        match *part {
            Part::Stored { object, len, plain_len, zstd } => {
                let enc = if zstd { Encoding::Zstd } else { Encoding::Raw };
                PartFields { o: Some(object), len: Some(len), plain_len, enc }
            }
            Part::Zeros(plain_len) => PartFields { o: None, len: None, plain_len, enc: Encoding::Zero },
        }
    }
}

impl TryFrom<PartFields> for Part {
    type Error = &'static str;

    fn try_from(fields: PartFields) -> Result<Part, Self::Error> {
        let PartFields { o, len, plain_len, enc } = fields;
        let fits = plain_len > 0 && plain_len <= PART as u64;
        match (o, len, enc) {
            (None, None, Encoding::Zero) if plain_len > 0 => Ok(Part::Zeros(plain_len)),
            (Some(object), Some(len), Encoding::Raw) if fits && len == plain_len => {
                Ok(Part::Stored { object, len, plain_len, zstd: false })
            }
            // One that does not get shorter is stored as it is.
            (Some(object), Some(len), Encoding::Zstd) if fits && len > 0 && len < plain_len => {
                Ok(Part::Stored { object, len, plain_len, zstd: true })
            }
            _ => Err("a part is not as it should be"),
        }
    }
}

impl Fields {
    /// An entry; `None` for what is never told. `parts` are asked for those of a file, if its content is told.
    pub(super) fn of(entry: &Entry, parts: Option<&Parts>) -> Result<Option<Fields>, StoreError> {
        Ok(Some(match entry {
            Entry::Dir(meta) => Fields { r#type: Kind::Dir, ..Fields::of_meta(meta) },
            Entry::File(file) => {
                let told = |parts: &Parts| match parts.get(&file.digest) {
                    Some(parts) => Ok(parts.iter().map(PartFields::from).collect()),
                    None if file.size == 0 => Ok(Vec::new()),
                    None => Err(StoreError::Local(format!("the content {} was not stored", file.digest))),
                };
                Fields {
                    r#type: Kind::File,
                    mtime_ns: Some(file.mtime),
                    size: Some(file.size),
                    digest: Some(Sha256(file.digest.0)),
                    parts: parts.map(told).transpose()?,
                    ..Fields::of_meta(&file.meta)
                }
            }
            Entry::Symlink(link) => Fields {
                r#type: Kind::Symlink,
                link: Some(crate::model::escape::escape(&link.target)),
                ..Fields::default()
            },
            Entry::Excluded => return Ok(None),
            Entry::Busy(_) | Entry::Problem(_) => Fields::default(),
        }))
    }

    fn of_meta(meta: &Meta) -> Fields {
        Fields {
            mode: Some(Mode(meta.mode)),
            user: meta.owner.user().map(str::to_owned),
            group: meta.owner.group().map(str::to_owned),
            ..Fields::default()
        }
    }

    /// The entry at `path`, and the parts of a file whose content is told.
    pub(super) fn entry(self, path: &RelPath) -> Result<(Entry, Option<Vec<Part>>), &'static str> {
        let Fields { path: _, r#type, mode, user, group, mtime_ns, size, digest, link, parts } = self;
        let owner = Owner::new(user.as_deref(), group.as_deref());
        let bare = user.is_none() && group.is_none() && mode.is_none();
        let no_file = mtime_ns.is_none() && size.is_none() && digest.is_none() && parts.is_none();
        let entry = match (r#type, mode, link) {
            (Kind::Dir, Some(Mode(mode)), None) if no_file && mode <= 0o3777 => {
                Entry::Dir(Meta { mode, owner })
            }
            (Kind::File, Some(Mode(mode)), None) if mode <= 0o777 => {
                let (Some(mtime), Some(size), Some(digest)) = (mtime_ns, size, digest) else {
                    return Err("a file lacks its time, size or digest");
                };
                let file = File { size, mtime, digest: Digest(digest.0), meta: Meta { mode, owner } };
                return Ok((Entry::File(file), parts.map(|parts| checked(parts, size)).transpose()?));
            }
            (Kind::Symlink, None, Some(link)) if no_file && bare => {
                let target =
                    crate::model::escape::unescape(&link).ok_or("a link is not escaped as it should be")?;
                let link = Symlink { target: target.into() };
                if link.escapes(path) {
                    return Err("a link leads out of the directory");
                }
                Entry::Symlink(link)
            }
            (Kind::Held, None, None) if no_file && bare => Entry::Busy(Busy::Unread),
            _ => return Err("an entry has what it should not have"),
        };
        Ok((entry, None))
    }
}

/// The parts of a file of `size` bytes.
fn checked(parts: Vec<PartFields>, size: u64) -> Result<Vec<Part>, &'static str> {
    let parts = parts.into_iter().map(Part::try_from).collect::<Result<Vec<Part>, _>>()?;
    let sum = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.plain_len()));
    if sum == Some(size) { Ok(parts) } else { Err("the parts of a file are not as long as the file") }
}

/// A tree as an object.
pub fn encode(tree: &Tree, parts: &Parts) -> Result<Vec<u8>, StoreError> {
    let mut lines = Lines::new()?;
    for (path, entry) in tree.iter() {
        if let Some(fields) = Fields::of(entry, Some(parts))? {
            lines.push(&Fields { path: Some(path.to_owned()), ..fields })?;
        }
    }
    lines.finish()
}

/// Reads a tree from an object whose name was found to be its hash.
pub fn decode(object: &[u8]) -> Result<StoredTree, StoreError> {
    let mut found = StoredTree::default();
    let mut bounds = Bounds::default();
    read_lines(object, |line| {
        let fields: Fields = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let path = fields.path.clone().ok_or("an entry has no path")?;
        let (entry, parts) = bounds.checked(&path, fields)?;
        if let Entry::File(file) = &entry {
            found.parts.insert(file.digest, parts.ok_or("a file has no parts")?);
        }
        found.tree.push(&path, entry).map_err(|_| "paths are out of order".to_owned())
    })?;
    Ok(found)
}

/// What was read so far.
#[derive(Default)]
pub(super) struct Bounds {
    entries: usize,
    path_bytes: usize,
    parts: usize,
}

impl Bounds {
    /// The entry at a path, if there is room for one more.
    pub(super) fn checked(
        &mut self,
        path: &RelPath,
        fields: Fields,
    ) -> Result<(Entry, Option<Vec<Part>>), &'static str> {
        if path.names().any(is_reserved) {
            return Err("a name is never synchronised");
        }
        let (entry, parts) = fields.entry(path)?;
        self.parts += parts.as_ref().map_or(0, Vec::len);
        self.count(path)?;
        Ok((entry, parts))
    }

    /// One more path, whatever is said of it.
    pub(super) fn count(&mut self, path: &RelPath) -> Result<(), &'static str> {
        self.entries += 1;
        self.path_bytes += path.as_bytes().len();
        if self.entries > MAX_ENTRIES || self.path_bytes > MAX_PATH_BYTES || self.parts > MAX_PARTS {
            return Err("there are too many entries");
        }
        Ok(())
    }
}

/// Lines of JSON on their way into an object.
pub(super) struct Lines(zstd::Encoder<'static, Vec<u8>>);

impl Lines {
    pub(super) fn new() -> Result<Lines, StoreError> {
        zstd::Encoder::new(Vec::new(), LEVEL).map(Lines).map_err(|error| packing(&error))
    }

    pub(super) fn push(&mut self, value: &impl Serialize) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(value).map_err(|error| packing(&error.into()))?;
        line.push(b'\n');
        self.0.write_all(&line).map_err(|error| packing(&error))
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, StoreError> {
        self.0.finish().map_err(|error| packing(&error))
    }
}

fn packing(error: &std::io::Error) -> StoreError {
    StoreError::Local(format!("writing a tree: {error}"))
}

/// Hands every line of an object to `take`.
pub(super) fn read_lines(
    object: &[u8],
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), StoreError> {
    let malformed = |why: String| StoreError::Tampered(format!("a tree cannot be read: {why}"));
    let io = |error: std::io::Error| malformed(error.to_string());
    let mut decoder = zstd::Decoder::new(object).map_err(io)?;
    decoder.window_log_max(WINDOW_LOG).map_err(io)?;
    let mut reader = BufReader::new(decoder);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            return Ok(());
        }
        if line.pop() != Some(b'\n') {
            return Err(malformed("a line has no end, or is too long".to_owned()));
        }
        take(&line).map_err(malformed)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::tree::tests::any_tree;

    /// A tree as it comes back: without what is excluded, what could not be told is held.
    pub(crate) fn told(tree: &Tree) -> Tree {
        let entries = tree.iter().filter_map(|(path, entry)| match entry {
            Entry::Excluded => None,
            Entry::Busy(_) | Entry::Problem(_) => Some((path.to_owned(), Entry::Busy(Busy::Unread))),
            entry => Some((path.to_owned(), entry.clone())),
        });
        entries.collect()
    }

    /// Parts for every content of a tree.
    pub(crate) fn parts_of(tree: &Tree) -> Parts {
        let mut parts = Parts::default();
        for (_, entry) in tree.iter() {
            if let Entry::File(file) = entry {
                let object = Sha256::of(&file.digest.0);
                let part = Part::Stored { object, len: file.size, plain_len: file.size, zstd: false };
                parts.insert(file.digest, if file.size == 0 { vec![] } else { vec![part] });
            }
        }
        parts
    }

    fn sane(tree: Tree) -> Tree {
        let keep = |(path, entry): &(RelPathBuf, Entry)| {
            let escapes = matches!(entry, Entry::Symlink(link) if link.escapes(path));
            !escapes && !path.names().any(is_reserved)
        };
        tree.iter().map(|(path, entry)| (path.to_owned(), entry.clone())).filter(keep).collect()
    }

    fn lines(text: &str) -> Vec<u8> {
        zstd::bulk::compress(text.as_bytes(), 3).unwrap()
    }

    #[test]
    fn a_tree_is_text_that_people_can_read() {
        let meta = Meta { mode: 0o644, owner: Owner::new(Some("asterisk"), Some("www-data")) };
        let file = File { size: 3, mtime: 5, digest: Digest([7; 32]), meta };
        let tree: Tree =
            [(RelPathBuf::new(b"a\nb".to_vec()).unwrap(), Entry::File(file))].into_iter().collect();
        let object = encode(&tree, &parts_of(&tree)).unwrap();
        let text = String::from_utf8(zstd::stream::decode_all(&object[..]).unwrap()).unwrap();
        let digest = "07".repeat(32);
        let start = format!(
            "{{\"path\":\"a\\\\x0ab\",\"type\":\"file\",\"mode\":\"0644\",\"user\":\"asterisk\",\"group\":\"www-data\",\
             \"mtime_ns\":5,\"size\":3,\"digest\":\"{digest}\",\"parts\":[{{\"o\":\""
        );
        assert!(text.starts_with(&start), "{text}");
    }

    #[test]
    fn what_leads_elsewhere_or_lies_is_refused() {
        let digest = "07".repeat(32);
        let file = format!("\"type\":\"file\",\"mode\":\"0644\",\"mtime_ns\":5,\"digest\":\"{digest}\"");
        for line in [
            r#"{"path":"../a","type":"dir","mode":"0755"}"#.to_owned(),
            r#"{"path":"/a","type":"dir","mode":"0755"}"#.to_owned(),
            r#"{"path":".xds-sync/stage","type":"dir","mode":"0755"}"#.to_owned(),
            r#"{"path":"xds_override","type":"dir","mode":"0755"}"#.to_owned(),
            r#"{"type":"dir","mode":"0755"}"#.to_owned(),
            r#"{"path":"a","type":"dir","mode":"7755"}"#.to_owned(),
            r#"{"path":"a","type":"dir"}"#.to_owned(),
            r#"{"path":"a","type":"dir","mode":"0755","more":1}"#.to_owned(),
            r#"{"path":"a","type":"held","mode":"0755"}"#.to_owned(),
            r#"{"path":"a","type":"symlink","link":"/etc/passwd"}"#.to_owned(),
            r#"{"path":"a","type":"symlink","link":"../x"}"#.to_owned(),
            format!(r#"{{"path":"a",{file},"size":1,"parts":[]}}"#),
            format!(r#"{{"path":"a",{file},"size":1}}"#),
            format!(r#"{{"path":"a",{file},"size":0,"parts":[{{"plain_len":0,"enc":"zero"}}]}}"#),
            format!(
                r#"{{"path":"a",{file},"size":16777217,"parts":[{{"o":"{digest}","len":1,"plain_len":16777217,"enc":"zstd"}}]}}"#
            ),
            format!(
                r#"{{"path":"a",{file},"size":2,"parts":[{{"o":"{digest}","len":1,"plain_len":2,"enc":"raw"}}]}}"#
            ),
            format!(
                r#"{{"path":"a",{file},"size":1,"parts":[{{"plain_len":18446744073709551615,"enc":"zero"}},{{"plain_len":2,"enc":"zero"}}]}}"#
            ),
        ] {
            let error = decode(&lines(&format!("{line}\n"))).unwrap_err();
            assert!(matches!(error, StoreError::Tampered(_)), "{line}");
        }
        let dir = |path: &str| format!("{{\"path\":\"{path}\",\"type\":\"dir\",\"mode\":\"0755\"}}\n");
        assert!(decode(&lines(&(dir("a") + &dir("b")))).is_ok());
        for disorder in [dir("b") + &dir("a"), dir("a") + &dir("a"), dir("a").trim_end().to_owned()] {
            assert!(decode(&lines(&disorder)).is_err(), "{disorder}");
        }
        assert!(decode(b"no frame").is_err());
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 3).unwrap();
        assert!(matches!(decode(&bomb), Err(StoreError::Tampered(why)) if why.contains("too long")));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(tree in any_tree()) {
            let tree = sane(tree);
            let parts = parts_of(&tree);
            let found = decode(&encode(&tree, &parts).unwrap()).unwrap();
            prop_assert_eq!(found.tree, told(&tree));
            prop_assert_eq!(found.parts, parts);
        }

        #[test]
        fn any_bytes_are_a_tree_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&zstd::bulk::compress(&bytes, 1).unwrap());
        }
    }
}
