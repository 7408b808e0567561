//! How both ends find out that they speak with each other, and in which version.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use super::frame::FrameError;
use crate::node::{NodeError, NodeErrorKind};

/// What an agent's stream begins with. No banner has it: a byte that begins no UTF-8, line ends that any
/// translation of text would change, and a NUL.
pub(crate) const MAGIC: [u8; 16] = *b"\xffxds-sync\r\n\x1a\n\x00\xfe\xff";
/// Most bytes that a login shell may print before it; more is no banner.
pub(crate) const MAX_NOISE: usize = 64 * 1024;

/// The versions of the protocol that this program speaks.
const VERSIONS: (u16, u16) = (1, 1);

/// What is not implied by the version. A bit is never used twice.
mod feature {
    /// Trees cross compressed with zstd.
    pub(super) const ZSTD_TREES: u64 = 1 << 0;
    /// Holes of sparse files cross as such.
    pub(super) const HOLES: u64 = 1 << 1;
    /// Contents may refer to the basis that the receiver has.
    pub(super) const FORMERS: u64 = 1 << 2;
    /// Contents may be packed with zstd.
    pub(super) const PACKED: u64 = 1 << 3;
}

/// What this program has, and cannot do without at the other end.
const FEATURES: u64 = feature::ZSTD_TREES | feature::HOLES | feature::FORMERS | feature::PACKED;

/// What one end speaks. Hellos of every version begin with this, so that each can tell the other's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    pub(crate) lowest: u16,
    pub(crate) highest: u16,
    /// What it has.
    pub(crate) features: u64,
    /// What it cannot do without.
    pub(crate) required: u64,
    /// Of the package, for messages.
    pub(crate) package: String,
}

/// Who speaks to a node, and in which run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Names this Main for ever; a ULID.
    pub main: String,
    /// Raised by every takeover.
    pub epoch: u64,
    /// Main's name, for messages.
    pub name: String,
    /// The run's id, a ULID.
    pub run: String,
    /// Nothing may be changed in this session.
    pub dry_run: bool,
}

/// Main's side of the handshake.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MainHello {
    pub(crate) versions: Versions,
    pub(crate) hello: Hello,
    /// After how much silence Main gives up, in milliseconds: what the agent's keep-alives go by.
    pub(crate) timeout_ms: u64,
}

impl Versions {
    /// This program's.
    pub(crate) fn ours() -> Versions {
        Versions {
            lowest: VERSIONS.0,
            highest: VERSIONS.1,
            features: FEATURES,
            required: FEATURES,
            package: env!("CARGO_PKG_VERSION").to_owned(),
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

/// How a stream began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// With the magic.
    Magic,
    /// It ended without.
    Ended,
    /// With more than any banner.
    TooMuch,
}

/// Reads up to and including the magic, and not a byte more. What came before is in `noise`, also when
/// this fails.
pub(crate) fn find_magic(input: &mut dyn Read, noise: &mut Vec<u8>) -> io::Result<Found> {
    noise.clear();
    while noise.len() < MAX_NOISE + MAGIC.len() {
        let mut byte = [0];
        match input.read(&mut byte) {
            Ok(0) => return Ok(Found::Ended),
            Ok(_) => noise.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if noise.ends_with(&MAGIC) {
            noise.truncate(noise.len() - MAGIC.len());
            return Ok(Found::Magic);
        }
    }
    Ok(Found::TooMuch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(mut stream: &[u8]) -> (Found, Vec<u8>, usize) {
        let mut noise = Vec::new();
        let found = find_magic(&mut stream, &mut noise).unwrap();
        (found, noise, stream.len())
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
            assert_eq!(find(&stream), (Found::Magic, noise.to_vec(), 4));
        }
    }

    #[test]
    fn a_stream_without_magic_is_told() {
        let not_found = b"sh: 1: xds-sync: not found";
        assert_eq!(find(not_found), (Found::Ended, not_found.to_vec(), 0));
        let endless = vec![b'x'; MAX_NOISE * 2];
        assert_eq!(find(&endless).0, Found::TooMuch);
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
