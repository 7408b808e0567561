//! The handshake: both ends find each other behind a login shell's output, and agree on a version.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::frame::FrameError;
use crate::node::error::{NodeError, NodeErrorKind};
use crate::version;

/// What an agent's stream begins with. No login banner contains it: it has a byte that no UTF-8 text begins with, line
/// ends that any translation of text would change, and a NUL.
pub(crate) const MAGIC: [u8; 16] = *b"\xffxds-sync\r\n\x1a\n\x00\xfe\xff";
/// Most bytes that a login shell may print before the magic.
pub(crate) const MAX_NOISE: usize = 64 * 1024;

/// Capabilities that the version does not imply. A bit is never used twice.
mod feature {
    /// Trees are sent compressed with zstd.
    pub(super) const ZSTD_TREES: u64 = 1 << 0;
    /// Holes of sparse files are sent as such.
    pub(super) const HOLES: u64 = 1 << 1;
    /// Blobs may refer to the basis that the receiver has.
    pub(super) const BASIS: u64 = 1 << 2;
    /// Blobs may be packed with zstd.
    pub(super) const PACKED: u64 = 1 << 3;
}

/// What this program supports, and requires of the other end.
const FEATURES: u64 = feature::ZSTD_TREES | feature::HOLES | feature::BASIS | feature::PACKED;

/// What one end speaks. Hellos of every version begin with this, so that each can tell the other's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    pub(crate) lowest: u16,
    pub(crate) highest: u16,
    /// The features that it supports.
    pub(crate) features: u64,
    /// The features that it requires of the other end.
    pub(crate) required: u64,
    /// The version of its package, for messages.
    pub(crate) package: String,
}

/// The Main that speaks to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The permanent id of this Main, a ULID.
    pub main: String,
    /// Raised by every takeover.
    pub epoch: u64,
    /// Main's name, for messages.
    pub name: String,
}

/// Main's side of the handshake.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MainHello {
    pub(crate) versions: Versions,
    pub(crate) hello: Hello,
    /// After how many milliseconds of silence Main gives up. The agent sends keep-alives several times as often.
    pub(crate) timeout_ms: u64,
}

impl Versions {
    /// This program's.
    pub(crate) fn ours() -> Versions {
        Versions {
            lowest: version::PROTOCOL.0,
            highest: version::PROTOCOL.1,
            features: FEATURES,
            required: FEATURES,
            package: version::package(),
        }
    }

    /// The highest version that both ends speak.
    pub(crate) fn common(main: &Versions, node: &Versions) -> Result<u16, NodeError> {
        let common = main.highest.min(node.highest);
        let lowest = main.lowest.max(node.lowest);
        let missing = (main.required & !node.features) | (node.required & !main.features);
        if common >= lowest && missing == 0 {
            return Ok(common);
        }
        Err(NodeError::new(
            NodeErrorKind::Incompatible,
            format!("the node runs {node}, Main runs {main}: install the same version of xds-sync on both"),
        ))
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Versions { lowest, highest, features, .. } = self;
        let package = super::check::text(&self.package);
        write!(f, "xds-sync {package} (protocol {lowest} to {highest}, features {features:#x})")
    }
}

/// Reads a hello's payload; what a later version added behind it is left alone.
pub(crate) fn decode_hello<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, FrameError> {
    postcard::take_from_bytes(payload)
        .map(|(hello, _)| hello)
        .map_err(|error| FrameError::broken(format!("a malformed hello: {error}")))
}

/// How the beginning of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preamble {
    /// With the magic.
    Magic,
    /// With the stream.
    Ended,
    /// Not within the length that a banner may have.
    TooLong,
}

/// Reads up to and including the magic, and not a byte more. What came before is in `noise`, also when
/// this fails.
pub(crate) fn find_magic(input: &mut dyn Read, noise: &mut Vec<u8>) -> io::Result<Preamble> {
    noise.clear();
    while noise.len() < MAX_NOISE + MAGIC.len() {
        let mut byte = [0];
        match input.read(&mut byte) {
            Ok(0) => return Ok(Preamble::Ended),
            Ok(_) => noise.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if noise.ends_with(&MAGIC) {
            noise.truncate(noise.len() - MAGIC.len());
            return Ok(Preamble::Magic);
        }
    }
    Ok(Preamble::TooLong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(mut stream: &[u8]) -> (Preamble, Vec<u8>, usize) {
        let mut noise = Vec::new();
        let preamble = find_magic(&mut stream, &mut noise).unwrap();
        (preamble, noise, stream.len())
    }

    #[test]
    fn noise_before_the_magic_is_skipped() {
        for noise in [
            &b""[..],
            b"Last login: never\r\n",
            b"\x1b[31mno newline",
            // The magic's beginning, and then the magic.
            &MAGIC[..5],
            &vec![b'x'; MAX_NOISE],
        ] {
            let stream = [noise, &MAGIC, b"rest"].concat();
            assert_eq!(find(&stream), (Preamble::Magic, noise.to_vec(), 4));
        }
    }

    #[test]
    fn a_stream_without_magic_is_told() {
        let not_found = b"sh: 1: xds-sync: not found";
        assert_eq!(find(not_found), (Preamble::Ended, not_found.to_vec(), 0));
        let endless = vec![b'x'; MAX_NOISE * 2];
        assert_eq!(find(&endless).0, Preamble::TooLong);
    }

    #[test]
    fn versions_agree_or_name_both() {
        let speaks = |lowest, highest, features, required| Versions {
            lowest,
            highest,
            features,
            required,
            package: format!("0.{highest}"),
        };
        for (main, node, common) in [
            (speaks(1, 1, 3, 3), speaks(1, 1, 3, 3), Some(1)),
            (speaks(1, 4, 3, 3), speaks(2, 3, 7, 3), Some(3)),
            (speaks(1, 1, 3, 3), speaks(2, 3, 3, 3), None),
            (speaks(3, 4, 3, 3), speaks(1, 2, 3, 3), None),
            (speaks(1, 1, 3, 3), speaks(1, 1, 1, 1), None),
            (speaks(1, 1, 3, 3), speaks(1, 1, 7, 4), None),
            // An empty range shares nothing, not even with itself.
            (speaks(2, 1, 3, 3), speaks(2, 1, 3, 3), None),
        ] {
            let agreed = Versions::common(&main, &node);
            assert_eq!(agreed.clone().ok(), common);
            if let Err(error) = agreed {
                assert_eq!(error.kind, NodeErrorKind::Incompatible);
                let detail = error.detail;
                assert!(detail.contains(&main.to_string()) && detail.contains(&node.to_string()), "{detail}");
            }
        }
    }

    #[test]
    fn a_later_hello_still_tells_its_versions() {
        let mut payload = postcard::to_stdvec(&Versions::ours()).unwrap();
        payload.extend_from_slice(b"what a later version says");
        assert_eq!(decode_hello::<Versions>(&payload).unwrap(), Versions::ours());
    }
}
