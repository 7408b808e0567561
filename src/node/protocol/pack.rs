//! Content in fewer bytes, where it has fewer: voice shrinks, most music does not.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::limits::MAX_DATA;

/// zstd's fastest of the ordinary levels: Main packs for all nodes while it sends to them.
const LEVEL: i32 = 1;
/// So much of a piece tells whether the rest is worth a try: what is compressed already costs next to nothing.
const SAMPLE: usize = 4 * 1024;
/// Shorter pieces are not worth the try.
const LEAST: usize = 1024;

/// What comes one after the other is alike: after so many pieces in a row that did not shrink, only one in as many is
/// tried.
const MOST_SKIPPED: u32 = 8;

/// Packs what one end sends.
#[derive(Default)]
pub(crate) struct Packer {
    /// What zstd needs, once something was tried.
    compressor: Option<Compressor<'static>>,
    /// How many tries in a row were in vain.
    vain: u32,
    /// How many pieces are not to be tried.
    skip: u32,
}

impl Packer {
    /// The piece packed, if that saves an eighth of it at least.
    pub(crate) fn pack(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        if piece.len() < LEAST {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let packed = self.try_to(piece);
        self.vain = if packed.is_some() { 0 } else { (self.vain + 1).min(MOST_SKIPPED) };
        self.skip = self.vain.saturating_sub(1);
        packed
    }

    fn try_to(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        let compressor = self.compressor.as_mut()?;
        let mut shrunk = |bytes: &[u8]| {
            let packed = compressor.compress(bytes).ok()?;
            (packed.len() <= bytes.len() - bytes.len() / 8).then_some(packed)
        };
        // Its beginning may be a header, which tells nothing.
        let middle = piece.len().saturating_sub(SAMPLE) / 2;
        let sample = &piece[middle..piece.len().min(middle + SAMPLE)];
        if sample.len() < piece.len() {
            shrunk(sample)?;
        }
        shrunk(piece)
    }
}

/// Unpacks a piece: never more than a frame may carry.
pub(crate) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    Decompressor::new()?.decompress(packed, MAX_DATA)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn only_what_shrinks_is_packed() {
        let voice: Vec<u8> = noise(100_000).iter().map(|byte| byte % 16).collect();
        let half: Vec<u8> = noise(50_000).into_iter().chain(vec![0; 50_000]).collect();
        for (name, piece, packs) in [
            ("nothing", vec![], false),
            ("a few bytes", vec![0; 1000], false),
            ("zeros", vec![0; MAX_DATA], true),
            ("voice", voice, true),
            ("noise", noise(MAX_DATA), false),
            ("a short piece of noise", noise(2000), false),
            ("half of it", half, true),
            (
                "zeros in the middle alone",
                [&noise(198_000)[..99_000], &[0; 4096], &noise(198_000)[99_000..]].concat(),
                false,
            ),
        ] {
            let packed = Packer::default().pack(&piece);
            assert_eq!(packed.is_some(), packs, "{name}");
            if let Some(packed) = packed {
                assert!(packed.len() < piece.len(), "{name}");
                assert_eq!(unpack(&packed).unwrap(), piece, "{name}");
            }
        }
    }

    #[test]
    fn after_what_does_not_shrink_fewer_are_tried() {
        let mut packer = Packer::default();
        let (noise, zeros) = (noise(2000), vec![0; 2000]);
        assert!(packer.pack(&noise).is_none());
        assert!(packer.pack(&zeros).is_some(), "one alone says little");
        for _ in 0..1000 {
            assert!(packer.pack(&noise).is_none());
        }
        let skipped = std::iter::repeat_with(|| packer.pack(&zeros)).take_while(Option::is_none).count();
        assert!(skipped < MOST_SKIPPED as usize, "{skipped}");
        assert!(packer.pack(&zeros).is_some(), "what shrinks is packed from then on");
    }

    #[test]
    fn no_more_is_unpacked_than_a_frame_may_carry() {
        let bomb = zstd::bulk::compress(&vec![0; 64 * MAX_DATA], 3).unwrap();
        assert!(bomb.len() < MAX_DATA);
        assert!(unpack(&bomb).is_err());
        for bytes in [&b"x"[..], &noise(1000)] {
            assert!(unpack(bytes).is_err());
        }
    }
}
