//! A tree on the wire: its encoding, compressed, in parts; an empty part ends it.

use std::io::{self, BufRead, Read, Write};

use super::check;
use super::frame::{FrameError, Kind, MAX_DATA, write_frame};
use crate::model::{Digest, Tree};

/// Longest encoding of a tree: some three million files, three times the largest site we know of. Main
/// may have to hold as many of these as it serves nodes at a time.
pub(crate) const MAX_TREE: u64 = 256 * 1024 * 1024;
/// Digests do not compress; the fastest level gets the rest.
const LEVEL: i32 = 1;
/// Largest window a peer may have us allocate: 2^23 bytes, as zstd recommends decoders to support.
const WINDOW_LOG: u32 = 23;

/// Sends an encoded tree.
pub(crate) fn send_tree(output: &mut dyn Write, encoded: &[u8]) -> io::Result<()> {
    let mut compressed = zstd::stream::read::Encoder::new(encoded, LEVEL)?;
    let mut part = vec![0; MAX_DATA];
    loop {
        let mut length = 0;
        while length < part.len() {
            match compressed.read(&mut part[length..])? {
                0 => break,
                count => length += count,
            }
        }
        write_frame(output, Kind::Part, &part[..length])?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// Receives a tree that was announced with this length; `next` reads a frame. Returns its digest as well.
pub(crate) fn receive_tree(
    length: u64,
    next: &mut dyn FnMut(&mut Vec<u8>) -> Result<Kind, FrameError>,
) -> Result<(Tree, Digest), FrameError> {
    if length > MAX_TREE {
        return Err(FrameError::broken(format!("a tree of {length} bytes, more than {MAX_TREE}")));
    }
    let mut parts = Parts { next, part: Vec::new(), at: 0, ended: false, received: 0, failed: None };
    let mut encoded = Vec::new();
    let unpacked = unpack(&mut parts, length, &mut encoded);
    if let Some(failed) = parts.failed {
        return Err(failed);
    }
    unpacked.map_err(|error| FrameError::broken(format!("a tree that cannot be unpacked: {error}")))?;
    let tree = Tree::decode(&encoded).map_err(|error| FrameError::broken(error.to_string()))?;
    check::tree(&tree)?;
    Ok((tree, Digest(blake3::hash(&encoded).into())))
}

fn unpack(parts: &mut Parts<'_>, length: u64, encoded: &mut Vec<u8>) -> io::Result<()> {
    let mut plain = zstd::stream::read::Decoder::with_buffer(&mut *parts)?;
    plain.window_log_max(WINDOW_LOG)?;
    // One byte more than announced shows that there is more. What arrives makes the buffer grow.
    plain.take(length + 1).read_to_end(encoded)?;
    if encoded.len() as u64 != length {
        return Err(io::Error::other(format!("it is not of the {length} bytes it was announced with")));
    }
    while !parts.ended {
        let rest = parts.fill_buf()?.len();
        if rest > 0 {
            return Err(io::Error::other("bytes follow its end"));
        }
    }
    Ok(())
}

/// The payloads of parts, one after the other.
struct Parts<'a> {
    next: &'a mut dyn FnMut(&mut Vec<u8>) -> Result<Kind, FrameError>,
    part: Vec<u8>,
    at: usize,
    ended: bool,
    received: u64,
    failed: Option<FrameError>,
}

impl Parts<'_> {
    fn advance(&mut self) -> Result<(), FrameError> {
        let kind = (self.next)(&mut self.part)?;
        if kind != Kind::Part {
            return Err(FrameError::broken(format!("a {kind:?} frame within a tree")));
        }
        self.at = 0;
        self.ended = self.part.is_empty();
        self.received += self.part.len() as u64;
        // Incompressible bytes grow by less than a percent.
        if self.received > MAX_TREE + MAX_TREE / 100 {
            return Err(FrameError::broken("a tree that never ends"));
        }
        Ok(())
    }
}

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.part.len()
            && !self.ended
            && let Err(failed) = self.advance()
        {
            self.failed = Some(failed);
            self.ended = true;
            return Err(io::Error::other("no next part"));
        }
        Ok(&self.part[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::frame::read_frame;
    use super::*;
    use crate::model::{Entry, Meta, Owner, RelPathBuf, Symlink};

    fn receive(length: u64, mut frames: &[u8]) -> Result<Tree, FrameError> {
        receive_tree(length, &mut |payload| {
            read_frame(&mut frames, payload)?
                .ok_or_else(|| FrameError::Io(io::ErrorKind::UnexpectedEof.into()))
        })
        .map(|(tree, _)| tree)
    }

    fn parts(bytes: &[u8]) -> Vec<u8> {
        let mut frames = Vec::new();
        for part in bytes.chunks(1000) {
            write_frame(&mut frames, Kind::Part, part).unwrap();
        }
        write_frame(&mut frames, Kind::Part, b"").unwrap();
        frames
    }

    fn tree(paths: &[&str], entry: &Entry) -> Tree {
        paths.iter().map(|path| (RelPathBuf::new(path.as_bytes()).unwrap(), entry.clone())).collect()
    }

    fn dir() -> Entry {
        Entry::Dir(Meta { mode: 0o755, owner: Owner::new(Some("asterisk"), Some("www-data")) })
    }

    #[test]
    fn a_tree_arrives_as_sent() {
        let names: Vec<String> = (0..20_000).map(|n| format!("{n:05}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for tree in [Tree::default(), tree(&["a", "a/b"], &dir()), tree(&names, &dir())] {
            let encoded = tree.encode();
            let mut frames = Vec::new();
            send_tree(&mut frames, &encoded).unwrap();
            assert_eq!(receive(encoded.len() as u64, &frames).unwrap(), tree);
        }
    }

    #[test]
    fn a_bomb_stops_at_its_announced_length() {
        let bomb = zstd::encode_all(&vec![0; 64 * 1024 * 1024][..], 3).unwrap();
        assert!(bomb.len() < 16 * 1024);
        let error = receive(1000, &parts(&bomb)).unwrap_err();
        assert!(error.to_string().contains("not of the 1000 bytes"), "{error}");
        let error = receive(MAX_TREE + 1, &parts(&bomb)).unwrap_err();
        assert!(error.to_string().contains("more than 268435456"), "{error}");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let encoded = tree(&["a", "b"], &dir()).encode();
        let raw = |encoded: &[u8]| (encoded.len() as u64, parts(&zstd::encode_all(encoded, 1).unwrap()));
        let twice = [&encoded[..encoded.len() - 3], &encoded].concat();
        // Shares nothing, six bytes: the path; then the kind of an excluded entry; the end.
        let with_path = |path: &[u8]| {
            [&[0, u8::try_from(path.len()).unwrap()][..], path, b"x", &[0xff, 0xff, 0x7f]].concat()
        };
        let outside = Entry::Symlink(Symlink { target: b"../../etc"[..].into() });
        for (why, (length, frames)) in [
            ("duplicate paths", raw(&twice)),
            ("a path that leads up", raw(&with_path(b"../etc"))),
            ("an absolute path", raw(&with_path(b"/etc/x"))),
            ("a symlink that leads out", raw(&tree(&["a"], &outside).encode())),
            ("our own directory", raw(&tree(&[".xds-sync/stage"], &dir()).encode())),
            ("not compressed", (encoded.len() as u64, parts(&encoded))),
            ("cut short", (encoded.len() as u64, parts(&zstd::encode_all(&encoded[..], 1).unwrap()[..10]))),
            ("more after it", {
                let (length, mut frames) = raw(&encoded);
                frames.truncate(frames.len() - 5);
                (length, [frames, parts(b"more")].concat())
            }),
            ("another frame in it", (encoded.len() as u64, vec![0, 0, 0, 0, Kind::Data as u8])),
        ] {
            let error = receive(length, &frames).unwrap_err();
            assert!(matches!(error, FrameError::Broken(_)), "{why}: {error}");
        }
    }
}
