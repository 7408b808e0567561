//! The record of one edge.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Intent, KeptTrees, Malformed, Tree};

/// One edge: which root the node had, what both ends agreed on, and what they were like when they were last in step.
///
/// Kept as the bytes of its file, so that a run that finds both ends in step never decodes the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeRecord {
    /// Id of the node's root.
    pub root: String,
    /// Names this record; the node's marker holds the same. `None` where no run has come to an end on this root yet.
    pub generation: Option<String>,
    /// Digest of the rules that the base was made under.
    pub rules: Digest,
    /// Whether both ends have agreed on the base. Otherwise a first run was cut off: the base has no more than what is
    /// known of that run, and a path that is not in it may be anything.
    pub agreed: bool,
    /// What both ends looked like when nothing was left to do.
    pub in_step: Option<InStep>,
    /// See [`EdgeRecord::intent`].
    intent: Option<Vec<u8>>,
    /// See [`EdgeRecord::kept`].
    kept: Option<Vec<u8>>,
    bytes: Vec<u8>,
    base_at: usize,
}

/// What an [`EdgeRecord`] says beside its trees; see there.
#[derive(Clone, Debug)]
pub struct EdgeHeader {
    pub root: String,
    pub generation: Option<String>,
    pub rules: Digest,
    pub agreed: bool,
    pub in_step: Option<InStep>,
}

/// Digests of both ends at a moment when nothing was left to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InStep {
    /// Of Main's tree and the policies it was planned under.
    pub main: Digest,
    /// Of the node's tree.
    pub node: Digest,
}

#[derive(Serialize, Deserialize)]
struct Header {
    root: String,
    generation: Option<String>,
    rules: Digest,
    agreed: bool,
    in_step: Option<InStep>,
    intent: Option<Vec<u8>>,
    kept: Option<Vec<u8>>,
}

/// Begins every edge file; the last byte is the version of what follows.
const MAGIC: &[u8; 8] = b"xdsedge\x04";
const CHECKSUM: usize = 32;
/// zstd's fastest: a base is written after every run that changed something.
const LEVEL: i32 = 1;
/// Largest base that is read back, uncompressed.
const MAX_BASE: usize = 2 << 30;

impl EdgeRecord {
    /// A record of an edge with this base, which a run is about to change as `intent` says.
    #[must_use]
    pub fn new(header: EdgeHeader, base: &Tree, kept: &KeptTrees, intent: Option<&Intent>) -> EdgeRecord {
        let EdgeHeader { root, generation, rules, agreed, in_step } = header;
        let intent = intent.map(|intent| encode([&intent.goal, &intent.main, &intent.node]));
        let kept = (*kept != KeptTrees::default()).then(|| encode([&kept.main, &kept.node]));
        let header = Header { root, generation, rules, agreed, in_step, intent, kept };
        // Neither can fail: the header has no maps, and both write to memory.
        let head = postcard::to_stdvec(&header).unwrap_or_default();
        let base = zstd::bulk::compress(&base.encode(), LEVEL).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[0; CHECKSUM]);
        bytes.extend_from_slice(&(head.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&head);
        let base_at = bytes.len();
        bytes.extend_from_slice(&base);
        let checksum = blake3::hash(&bytes[MAGIC.len() + CHECKSUM..]);
        bytes[MAGIC.len()..MAGIC.len() + CHECKSUM].copy_from_slice(checksum.as_bytes());
        let Header { root, generation, rules, agreed, in_step, intent, kept } = header;
        EdgeRecord { root, generation, rules, agreed, in_step, intent, kept, bytes, base_at }
    }

    /// What an unfinished run intended to do on this edge.
    pub fn intent(&self) -> Option<Result<Intent, Malformed>> {
        let read = |[goal, main, node]: [Tree; 3]| Intent { goal, main, node };
        Some(decode(self.intent.as_ref()?).map(read))
    }

    /// What the disks of both ends keep instead of entries of the base.
    pub fn kept(&self) -> Result<KeptTrees, Malformed> {
        let Some(kept) = &self.kept else { return Ok(KeptTrees::default()) };
        decode(kept).map(|[main, node]| KeptTrees { main, node })
    }

    /// What both ends last agreed on.
    pub fn base(&self) -> Result<Tree, Malformed> {
        let tree = zstd::bulk::decompress(&self.bytes[self.base_at..], MAX_BASE).unwrap_or_default();
        Tree::decode(&tree)
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads what [`EdgeRecord::encoded`] gave, and nothing else.
    pub(super) fn decode(bytes: Vec<u8>) -> Result<EdgeRecord, String> {
        let Some(rest) = bytes.strip_prefix(&MAGIC[..7]) else {
            return Err("it is no edge of xds-sync".to_owned());
        };
        if rest.first() != MAGIC.last() {
            return Err("it was written by another version of xds-sync".to_owned());
        }
        let (Some(checksum), Some(body)) = (rest.get(1..=CHECKSUM), rest.get(1 + CHECKSUM..)) else {
            return Err("it is cut short".to_owned());
        };
        if blake3::hash(body).as_bytes() != checksum {
            return Err("its checksum is wrong".to_owned());
        }
        let (length, rest) = body.split_first_chunk().ok_or("it is cut short")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let head = rest.get(..length).ok_or("it is cut short")?;
        let Header { root, generation, rules, agreed, in_step, intent, kept } =
            postcard::from_bytes(head).map_err(|error| format!("its header is malformed: {error}"))?;
        let base_at = MAGIC.len() + CHECKSUM + 8 + length;
        Ok(EdgeRecord { root, generation, rules, agreed, in_step, intent, kept, bytes, base_at })
    }
}

fn encode<const N: usize>(trees: [&Tree; N]) -> Vec<u8> {
    // Neither can fail: there are no maps, and both write to memory.
    let bytes = postcard::to_stdvec(&trees.map(Tree::encode).to_vec()).unwrap_or_default();
    zstd::bulk::compress(&bytes, LEVEL).unwrap_or_default()
}

/// Reads what [`encode`] gave.
fn decode<const N: usize>(bytes: &[u8]) -> Result<[Tree; N], Malformed> {
    let trees = zstd::bulk::decompress(bytes, MAX_BASE).unwrap_or_default();
    let trees: Vec<Vec<u8>> = postcard::from_bytes(&trees).unwrap_or_default();
    let trees = (0..N).map(|at| Tree::decode(trees.get(at).map_or(&[][..], |tree| tree)));
    let trees: Vec<Tree> = trees.collect::<Result<_, Malformed>>()?;
    // There are as many as were asked for.
    Ok(<[Tree; N]>::try_from(trees).unwrap_or_else(|_| [(); N].map(|()| Tree::default())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::tree::tests::any_tree;
    use crate::model::{Entry, File, Meta, Owner, RelPathBuf};

    fn edge(base: &Tree) -> EdgeRecord {
        let header = EdgeHeader {
            root: "01R".to_owned(),
            generation: Some("01G".to_owned()),
            rules: Digest([1; 32]),
            agreed: true,
            in_step: Some(InStep { main: Digest([2; 32]), node: Digest([3; 32]) }),
        };
        let intent = Intent { goal: base.clone(), ..Intent::default() };
        let kept = KeptTrees { node: base.clone(), ..KeptTrees::default() };
        EdgeRecord::new(header, base, &kept, Some(&intent))
    }

    proptest! {
        #[test]
        fn an_edge_is_read_as_written(base in any_tree()) {
            let edge = edge(&base);
            let read = EdgeRecord::decode(edge.encoded().to_vec()).unwrap();
            prop_assert_eq!(read.intent(), Some(Ok(Intent { goal: base.clone(), ..Intent::default() })));
            prop_assert_eq!(read.kept(), Ok(KeptTrees { node: base.clone(), ..KeptTrees::default() }));
            prop_assert_eq!(read.base(), Ok(base));
            prop_assert_eq!(read, edge);
        }

        #[test]
        fn any_bytes_will_do(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(EdgeRecord::decode(bytes.clone()).is_err());
            prop_assert!(EdgeRecord::decode([&MAGIC[..], &bytes].concat()).is_err());
        }
    }

    #[test]
    fn no_damage_goes_unseen() {
        let file = File {
            size: 5,
            mtime: 7,
            digest: Digest([9; 32]),
            meta: Meta { mode: 0o640, owner: Owner::default() },
        };
        let base = [(RelPathBuf::new(&b"a.wav"[..]).unwrap(), Entry::File(file))].into_iter().collect();
        let good = edge(&base).encoded().to_vec();
        assert!(EdgeRecord::decode(good.clone()).is_ok());
        for at in 0..good.len() {
            assert!(EdgeRecord::decode(good[..at].to_vec()).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                assert!(EdgeRecord::decode(flipped).is_err(), "byte {at}, bit {bit}");
            }
        }
        assert!(EdgeRecord::decode([&good[..], b"x"].concat()).is_err());
    }

    #[test]
    fn another_version_is_named_as_such() {
        let mut other = edge(&Tree::default()).encoded().to_vec();
        other[7] += 1;
        assert_eq!(EdgeRecord::decode(other).unwrap_err(), "it was written by another version of xds-sync");
    }
}
