//! A tree as bytes: for the wire, for files, and to be hashed.
//!
//! One tree has exactly one encoding, so equal trees have equal digests on every host. Numbers are
//! LEB128; a path is the number of bytes it shares with the one before, and the rest. Decoding trusts
//! nothing: it runs on what a hostile peer sent and on files that a crash cut short.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::digest::Digest;
use super::entry::{Busy, Entry, EntryProblem, File, Meta, Owner, Symlink};
use super::path::RelPath;
use super::tree::Tree;

/// Most entries of a tree from elsewhere: twice what a scan takes in, since a base may have what both ends had.
const MAX_ENTRIES: u64 = 4_000_000;
/// Most bytes of all its paths and symlink targets together, likewise. Shared prefixes make a small message name long paths, so the
/// message's length alone bounds nothing.
const MAX_PATH_BYTES: usize = 128 << 20;
/// Most owners of a tree. A host has as many as it has users.
const MAX_OWNERS: usize = 10_000;
/// Bytes of an encoding that are handed on at a time, at least: BLAKE3 takes many chunks of 1 KiB side by side.
const FED: usize = 64 * 1024;
/// Longest symlink target, user name or reason.
const MAX_TEXT: u64 = 4096;

/// The bytes are no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed tree: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// How much of an entry is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    All,
    /// What an Asterisk that loaded the files would notice: not the mtime, nor what is not carried.
    Loaded,
}

impl Tree {
    /// The encoding of the whole tree.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.feed(View::All, &mut |part| bytes.extend_from_slice(part));
        bytes
    }

    /// Hands the encoding of the whole tree to `sink`, piece by piece.
    pub fn feed_all(&self, sink: &mut dyn FnMut(&[u8])) {
        self.feed(View::All, sink);
    }

    /// Hands what a reload depends on to `sink`: content, names, modes and owners, not mtimes, and not
    /// what is excluded, busy or unreadable.
    pub fn feed_loaded(&self, sink: &mut dyn FnMut(&[u8])) {
        self.feed(View::Loaded, sink);
    }

    fn feed(&self, view: View, sink: &mut dyn FnMut(&[u8])) {
        let mut owners = OwnerNumbers::default();
        let mut buffer = Vec::with_capacity(2 * FED);
        let mut before: &[u8] = b"";
        for (path, entry) in self.iter() {
            if view == View::Loaded && entry.is_opaque() {
                continue;
            }
            let path = path.as_bytes();
            let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            put_number(&mut buffer, shared as u64);
            put_bytes(&mut buffer, &path[shared..]);
            before = path;
            put_entry(&mut buffer, entry, view, &mut owners);
            if buffer.len() >= FED {
                sink(&buffer);
                buffer.clear();
            }
        }
        // No path shares more than PATH_MAX bytes with another: the end cannot be read as an entry.
        buffer.extend_from_slice(&END);
        sink(&buffer);
    }

    /// Reads an [encoded](Tree::encode) tree, all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Tree, Malformed> {
        let mut input = Input(bytes);
        let mut tree = Tree::default();
        let mut owners = Owners::default();
        let mut path: Vec<u8> = Vec::new();
        let mut path_bytes = 0;
        while !input.0.starts_with(&END) {
            if tree.len() as u64 >= MAX_ENTRIES {
                return Err(Malformed("too many entries"));
            }
            let shared = usize::try_from(input.number()?).unwrap_or(usize::MAX);
            if shared > path.len() {
                return Err(Malformed("a path shares more than there is"));
            }
            let rest = input.text()?;
            if rest.first().is_some_and(|first| path.get(shared) == Some(first)) {
                return Err(Malformed("a path shares less than it could"));
            }
            path.truncate(shared);
            path.extend_from_slice(rest);
            let entry = input.entry(&mut owners)?;
            let target = if let Entry::Symlink(link) = &entry { link.target.len() } else { 0 };
            path_bytes += path.len() + target;
            if path_bytes > MAX_PATH_BYTES {
                return Err(Malformed("the paths are too long together"));
            }
            let path = RelPath::new(&path).map_err(|_| Malformed("a path is not allowed"))?;
            tree.push(path, entry).map_err(|_| Malformed("paths are out of order"))?;
        }
        if input.0.len() != END.len() {
            return Err(Malformed("bytes follow its end"));
        }
        Ok(tree)
    }
}

/// A shared length of 2^21 - 1, which no path has.
const END: [u8; 3] = [0xff, 0xff, 0x7f];

fn put_number(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_number(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

fn put_name(buffer: &mut Vec<u8>, name: Option<&str>) {
    // The empty name is none: no user has it.
    put_bytes(buffer, name.unwrap_or("").as_bytes());
}

/// The owners of a tree, numbered in the order in which they are first used.
#[derive(Default)]
struct OwnerNumbers<'a> {
    numbers: HashMap<&'a Owner, usize>,
    /// The last one: neighbours mostly have the same.
    last: Option<(&'a Owner, usize)>,
}

impl<'a> OwnerNumbers<'a> {
    /// The number of an owner, and whether it is new.
    fn number(&mut self, owner: &'a Owner) -> (usize, bool) {
        if let Some((last, number)) = self.last
            && last == owner
        {
            return (number, false);
        }
        let count = self.numbers.len();
        let number = *self.numbers.entry(owner).or_insert(count);
        self.last = Some((owner, number));
        (number, number == count)
    }
}

fn put_meta<'a>(buffer: &mut Vec<u8>, meta: &'a Meta, owners: &mut OwnerNumbers<'a>) {
    buffer.extend_from_slice(&meta.mode.to_le_bytes());
    // An owner is spelled out where it is first used.
    let (number, is_new) = owners.number(&meta.owner);
    put_number(buffer, number as u64);
    if is_new {
        put_name(buffer, meta.owner.user());
        put_name(buffer, meta.owner.group());
    }
}

fn put_entry<'a>(buffer: &mut Vec<u8>, entry: &'a Entry, view: View, owners: &mut OwnerNumbers<'a>) {
    match entry {
        Entry::Dir(meta) => {
            buffer.push(b'd');
            put_meta(buffer, meta, owners);
        }
        Entry::File(file) => {
            buffer.push(b'f');
            put_number(buffer, file.size);
            if view == View::All {
                buffer.extend_from_slice(&file.mtime.to_le_bytes());
            }
            buffer.extend_from_slice(&file.digest.0);
            put_meta(buffer, &file.meta, owners);
        }
        Entry::Symlink(link) => {
            buffer.push(b'l');
            put_bytes(buffer, &link.target);
        }
        Entry::Excluded => buffer.push(b'x'),
        Entry::Busy(busy) => buffer.extend_from_slice(&[b'b', busy_code(*busy)]),
        Entry::Problem(problem) => {
            buffer.push(b'p');
            match problem {
                EntryProblem::Unreadable(why) => {
                    buffer.push(b'u');
                    put_bytes(buffer, why.as_bytes());
                }
                EntryProblem::Special => buffer.push(b's'),
                EntryProblem::EscapingLink => buffer.push(b'l'),
                EntryProblem::Mount => buffer.push(b'm'),
                EntryProblem::TooLong => buffer.push(b't'),
                EntryProblem::HardLink => buffer.push(b'h'),
                EntryProblem::OwnDir => buffer.push(b'o'),
                EntryProblem::Empty => buffer.push(b'e'),
                EntryProblem::Sparse { size, allocated } => {
                    buffer.push(b'a');
                    put_number(buffer, *size);
                    put_number(buffer, *allocated);
                }
            }
        }
    }
}

const BUSY: [(Busy, u8); 6] = [
    (Busy::Open, b'o'),
    (Busy::Empty, b'e'),
    (Busy::Unfinished, b'u'),
    (Busy::Young, b'y'),
    (Busy::Changing, b'c'),
    (Busy::Unread, b'r'),
];

fn busy_code(busy: Busy) -> u8 {
    BUSY.iter().find(|(known, _)| *known == busy).map_or(b'o', |(_, code)| *code)
}

struct Input<'a>(&'a [u8]);

/// The owners of a tree that were told so far, by their numbers.
#[derive(Default)]
struct Owners {
    known: Vec<Owner>,
    seen: HashSet<Owner>,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit; and the shortest form is the only one.
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(Malformed("a number is malformed"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number is malformed"))
    }

    fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()?;
        if length > MAX_TEXT {
            return Err(Malformed("a name is too long"));
        }
        // At most MAX_TEXT, so it fits.
        self.take(length as usize)
    }

    fn utf8(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.text()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn name(&mut self) -> Result<Option<&'a str>, Malformed> {
        Ok(Some(self.utf8()?).filter(|name| !name.is_empty()))
    }

    fn meta(&mut self, mode_mask: u16, owners: &mut Owners) -> Result<Meta, Malformed> {
        let mode = u16::from_le_bytes(self.array()?);
        if mode & !mode_mask != 0 {
            return Err(Malformed("a mode has bits that are never carried"));
        }
        let index = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if index == owners.known.len() {
            if index >= MAX_OWNERS {
                return Err(Malformed("too many owners"));
            }
            let owner = Owner::new(self.name()?, self.name()?);
            if !owners.seen.insert(owner.clone()) {
                return Err(Malformed("an owner is told twice"));
            }
            owners.known.push(owner);
        }
        let owner = owners.known.get(index).ok_or(Malformed("an owner is not known"))?.clone();
        Ok(Meta { mode, owner })
    }

    fn entry(&mut self, owners: &mut Owners) -> Result<Entry, Malformed> {
        Ok(match self.byte()? {
            b'd' => Entry::Dir(self.meta(0o3777, owners)?),
            b'f' => Entry::File(File {
                size: self.number()?,
                mtime: i64::from_le_bytes(self.array()?),
                digest: Digest(self.array()?),
                meta: self.meta(0o777, owners)?,
            }),
            b'l' => Entry::Symlink(Symlink { target: self.text()?.into() }),
            b'x' => Entry::Excluded,
            b'b' => {
                let code = self.byte()?;
                let known = BUSY.iter().find(|(_, known)| *known == code);
                Entry::Busy(known.ok_or(Malformed("an entry is of no known kind"))?.0)
            }
            b'p' => Entry::Problem(match self.byte()? {
                b'u' => EntryProblem::Unreadable(self.utf8()?.into()),
                b's' => EntryProblem::Special,
                b'l' => EntryProblem::EscapingLink,
                b'm' => EntryProblem::Mount,
                b't' => EntryProblem::TooLong,
                b'h' => EntryProblem::HardLink,
                b'o' => EntryProblem::OwnDir,
                b'e' => EntryProblem::Empty,
                b'a' => EntryProblem::Sparse { size: self.number()?, allocated: self.number()? },
                _ => return Err(Malformed("an entry is of no known kind")),
            }),
            _ => return Err(Malformed("an entry is of no known kind")),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::path::RelPathBuf;
    use super::super::tree::tests::any_tree;
    use super::*;

    #[test]
    fn a_path_shares_all_that_it_can() {
        let paths = |shared: u8, rest: &[u8]| {
            [&[0, 2][..], b"ab", b"x", &[shared, rest.len() as u8], rest, b"x", &END].concat()
        };
        assert!(Tree::decode(&paths(1, b"c")).is_ok());
        assert_eq!(
            Tree::decode(&paths(0, b"ac")).unwrap_err(),
            Malformed("a path shares less than it could")
        );
    }

    #[test]
    fn owners_are_counted() {
        let tree = |owners: usize| -> Tree {
            let owner = |n: usize| Owner::new(Some(&format!("u{n}")), None);
            let path = |n: usize| RelPathBuf::new(format!("{n:08}").into_bytes()).unwrap();
            (0..owners).map(|n| (path(n), Entry::Dir(Meta { mode: 0o755, owner: owner(n) }))).collect()
        };
        assert!(Tree::decode(&tree(MAX_OWNERS).encode()).is_ok());
        let error = Tree::decode(&tree(MAX_OWNERS + 1).encode()).unwrap_err();
        assert_eq!(error, Malformed("too many owners"));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(tree in any_tree()) {
            prop_assert_eq!(Tree::decode(&tree.encode()), Ok(tree));
        }

        #[test]
        fn an_encoding_cut_short_is_refused(tree in any_tree(), cut in any::<proptest::sample::Index>()) {
            let bytes = tree.encode();
            prop_assert!(Tree::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_a_tree_with_just_that_encoding_or_refused(bytes: Vec<u8>) {
            if let Ok(tree) = Tree::decode(&bytes) {
                prop_assert_eq!(tree.encode(), bytes);
            }
        }

        #[test]
        fn one_flipped_bit_is_refused_or_another_tree(tree in any_tree(), at in any::<proptest::sample::Index>(), bit in 0..8) {
            let mut bytes = tree.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_ne!(Tree::decode(&bytes), Ok(tree));
        }
    }
}
