//! A tree on the wire: its encoding, sent like the content of a changed file. The basis is a tree that Main
//! has and that is probably similar.

use std::sync::Arc;

use super::check;
use super::content::{StreamError, receive_one};
use super::frame::{FrameError, Kind};
use super::limits::MAX_TREE;
use crate::model::{Digest, Tree};
use crate::transfer::{Signature, Sink};

/// The encoding of a tree that another is probably similar to. It is empty where no such tree is known.
#[derive(Default)]
pub(crate) struct Likeness {
    encoded: Vec<u8>,
    /// What the other end may refer to; `None` where that would not be worth it.
    pub(crate) signature: Option<Arc<Signature>>,
}

impl Likeness {
    pub(crate) fn of(tree: &Tree) -> Likeness {
        let encoded = tree.encode();
        let signature = Signature::of_bytes(&encoded).map(Arc::new);
        Likeness { encoded, signature }
    }
}

/// Receives a tree that was announced with this length; `next` reads a frame. Returns its digest as well.
pub(crate) fn receive_tree(
    length: u64,
    like: &Likeness,
    next: &mut dyn FnMut(&mut Vec<u8>) -> Result<Kind, FrameError>,
) -> Result<(Tree, Digest), FrameError> {
    if length > MAX_TREE {
        return Err(FrameError::broken(format!("a tree of {length} bytes, more than {MAX_TREE}")));
    }
    let mut received = EncodedTree { like, encoded: Vec::new() };
    match receive_one(0, length, &|| "its tree".to_owned(), &mut received, next) {
        Ok(()) => {}
        Err(StreamError::Frame(error)) => return Err(error),
        Err(StreamError::Own(error)) => return Err(FrameError::broken(format!("{error:#}"))),
    }
    let encoded = received.encoded;
    if encoded.len() as u64 != length {
        let rule = format!("a tree of {} bytes, announced as one of {length}", encoded.len());
        return Err(FrameError::broken(rule));
    }
    let tree = Tree::decode(&encoded).map_err(|error| FrameError::broken(error.to_string()))?;
    check::tree(&tree)?;
    Ok((tree, Digest(blake3::hash(&encoded).into())))
}

/// Collects an encoding. The buffer grows with what arrives, of which the receiver lets through no more than
/// was announced.
struct EncodedTree<'a> {
    like: &'a Likeness,
    encoded: Vec<u8>,
}

impl Sink for EncodedTree<'_> {
    fn begin(&mut self, _index: usize) -> anyhow::Result<()> {
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.encoded.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, _length: u64) -> anyhow::Result<()> {
        anyhow::bail!("a hole in a tree")
    }

    fn basis(&self, _index: usize) -> Option<Arc<Signature>> {
        self.like.signature.clone()
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        // The receiver has checked the range against the signature, which is that of these very bytes.
        let range = usize::try_from(from)?..usize::try_from(from.saturating_add(length))?;
        let copied = self.like.encoded.get(range);
        self.encoded.extend_from_slice(
            copied.ok_or_else(|| anyhow::anyhow!("a copy from beyond the end of the basis"))?,
        );
        Ok(())
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        result.map_err(|why| anyhow::anyhow!("its tree was cut off: {why}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::super::content::Sender;
    use super::super::frame::{read_frame, write_frame};
    use super::super::limits::MAX_DATA;
    use super::super::pack::Packer;
    use super::*;
    use crate::model::{Entry, File, Meta, Owner, RelPathBuf, Symlink};
    use crate::transfer::send_bytes;

    fn receive_like(length: u64, mut frames: &[u8], like: &Likeness) -> Result<Tree, FrameError> {
        receive_tree(length, like, &mut |payload| {
            read_frame(&mut frames, payload)?
                .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))
        })
        .map(|(tree, _)| tree)
    }

    fn receive(length: u64, frames: &[u8]) -> Result<Tree, FrameError> {
        receive_like(length, frames, &Likeness::default())
    }

    /// What crosses the wire.
    fn send(encoded: &[u8], like: &Likeness) -> Vec<u8> {
        let (mut frames, mut packer) = (Vec::new(), Packer::default());
        let mut sender = Sender::new(&mut frames, &mut packer).with_signatures(vec![like.signature.clone()]);
        send_bytes(encoded, &mut sender).unwrap();
        frames
    }

    fn frames(frames: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, payload) in frames {
            write_frame(&mut bytes, *kind, payload).unwrap();
        }
        bytes
    }

    fn tree(paths: &[&str], entry: &Entry) -> Tree {
        paths.iter().map(|path| (RelPathBuf::new(path.as_bytes()).unwrap(), entry.clone())).collect()
    }

    fn dir() -> Entry {
        Entry::Dir(Meta { mode: 0o755, owner: Owner::new(Some("asterisk"), Some("www-data")) })
    }

    /// Files of a large site, each with a content of its own.
    fn site(files: usize) -> BTreeMap<RelPathBuf, Entry> {
        let file = |n: usize| {
            let meta = Meta { mode: 0o644, owner: Owner::new(Some("asterisk"), Some("www-data")) };
            let digest = Digest(blake3::hash(&n.to_le_bytes()).into());
            Entry::File(File {
                size: 1000 + n as u64,
                mtime: 1_700_000_000_000_000_000 + n as i64,
                digest,
                meta,
            })
        };
        let path = |n: usize| RelPathBuf::new(format!("{:02}/{n:06}.wav", n % 20).into_bytes()).unwrap();
        let dirs = (0..20).map(|n| (RelPathBuf::new(format!("{n:02}").into_bytes()).unwrap(), dir()));
        (0..files).map(|n| (path(n), file(n))).chain(dirs).collect()
    }

    #[test]
    fn a_tree_arrives_as_sent() {
        let none = Likeness::default();
        let large = site(20_000);
        let like = Likeness::of(&large.clone().into_iter().collect());
        for tree in [Tree::default(), tree(&["a", "a/b"], &dir()), large.into_iter().collect()] {
            let encoded = tree.encode();
            for like in [&none, &like] {
                let frames = send(&encoded, like);
                assert_eq!(receive_like(encoded.len() as u64, &frames, like).unwrap(), tree);
            }
        }
    }

    #[test]
    fn what_a_like_tree_has_does_not_cross_the_wire() {
        let known = site(20_000);
        let like = Likeness::of(&known.clone().into_iter().collect());
        let path = |text: &str| RelPathBuf::new(text.as_bytes()).unwrap();
        let changed = |change: &dyn Fn(&mut BTreeMap<RelPathBuf, Entry>)| -> Tree {
            let mut site = known.clone();
            change(&mut site);
            site.into_iter().collect()
        };
        for (name, tree, most) in [
            ("nothing", changed(&|_| {}), 200),
            ("one less", changed(&|site| drop(site.remove(&path("07/000007.wav")))), 20_000),
            ("one more", changed(&|site| drop(site.insert(path("00/!"), Entry::Excluded))), 20_000),
            ("a directory less", changed(&|site| site.retain(|at, _| !at.is_below(&path("07")))), 20_000),
            // An owner that comes first: all others have other numbers.
            (
                "an owner more",
                changed(&|site| {
                    let owner = Owner::new(Some("root"), Some("root"));
                    site.insert(path("!"), Entry::Dir(Meta { mode: 0o755, owner }));
                }),
                2_000_000,
            ),
        ] {
            let encoded = tree.encode();
            let frames = send(&encoded, &like);
            assert!(frames.len() < most, "{name}: {} of {} bytes", frames.len(), encoded.len());
            assert_eq!(receive_like(encoded.len() as u64, &frames, &like).unwrap(), tree, "{name}");
        }
    }

    #[test]
    fn more_than_was_announced_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; MAX_DATA], 3).unwrap();
        assert!(bomb.len() < 1024);
        let content = frames(&[(Kind::Begin, &[0]), (Kind::Packed, &bomb)]);
        let error = receive(1000, &content).unwrap_err();
        assert!(error.to_string().contains("more bytes than its tree has"), "{error}");
        let error = receive(MAX_TREE + 1, &content).unwrap_err();
        assert!(error.to_string().contains("more than 268435456"), "{error}");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let encoded = tree(&["a", "b"], &dir()).encode();
        let none = Likeness::default();
        let raw = |encoded: &[u8]| (encoded.len() as u64, send(encoded, &none));
        let twice = [&encoded[..encoded.len() - 3], &encoded].concat();
        // Shares nothing, six bytes: the path; then the kind of an excluded entry; the end.
        let with_path = |path: &[u8]| {
            [&[0, u8::try_from(path.len()).unwrap()][..], path, b"x", &[0xff, 0xff, 0x7f]].concat()
        };
        let outside = Entry::Symlink(Symlink { target: b"../../etc"[..].into() });
        let length = encoded.len() as u64;
        let broke_off = postcard::to_stdvec(&Err::<(), _>("gone")).unwrap();
        for (why, (length, frames)) in [
            ("duplicate paths", raw(&twice)),
            ("a path that leads up", raw(&with_path(b"../etc"))),
            ("an absolute path", raw(&with_path(b"/etc/x"))),
            ("a symlink that leads out", raw(&tree(&["a"], &outside).encode())),
            ("our own directory", raw(&tree(&[".xds-sync/stage"], &dir()).encode())),
            ("cut short", (length + 1, send(&encoded, &none))),
            ("more after it", (length - 1, send(&encoded, &none))),
            ("another content", (length, frames(&[(Kind::Begin, &[1])]))),
            ("another frame in it", (length, frames(&[(Kind::Begin, &[0]), (Kind::Alive, &[])]))),
            ("a hole", (length, frames(&[(Kind::Begin, &[0]), (Kind::Hole, &[1])]))),
            ("a copy of nothing", (length, frames(&[(Kind::Begin, &[0]), (Kind::Copy, &[0, 1])]))),
            ("an excuse", (length, frames(&[(Kind::Begin, &[0]), (Kind::End, &broke_off)]))),
        ] {
            let error = receive(length, &frames).unwrap_err();
            assert!(matches!(error, FrameError::Broken(_)), "{why}: {error}");
        }
    }
}
