//! One frame: the length of its payload (`u32`, little endian), its kind (one byte), the payload.

use std::fmt;
use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::{MAX_DATA, MAX_MESSAGE};

/// What a frame carries. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The versions that an end speaks; from Main also its identity.
    Hello = 1,
    /// A request of Main.
    Request = 2,
    /// An answer of the agent.
    Reply = 3,
    /// Why the agent ends the session.
    Failed = 4,
    /// The agent is at work; no payload.
    Alive = 5,
    /// A blob begins: its index.
    Begin = 6,
    /// The blob's next bytes, as they are.
    Data = 7,
    /// The blob's next bytes are that many zeros.
    Hole = 8,
    /// The blob is complete, or why not.
    End = 9,
    /// The blob's next bytes are a range of the basis that the receiver has.
    Copy = 10,
    /// The blob's next bytes, packed: each frame by itself.
    Packed = 11,
    /// What has changed below roots that the agent watches. It may come between any two frames.
    Changed = 12,
}

const KINDS: [Kind; 12] = [
    Kind::Hello,
    Kind::Request,
    Kind::Reply,
    Kind::Failed,
    Kind::Alive,
    Kind::Begin,
    Kind::Data,
    Kind::Hole,
    Kind::End,
    Kind::Copy,
    Kind::Packed,
    Kind::Changed,
];

impl Kind {
    fn of(code: u8) -> Option<Kind> {
        KINDS.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Longest payload.
    fn limit(self) -> usize {
        match self {
            // Some texts, each of them cut to `MAX_TEXT`, and numbers.
            Kind::Hello | Kind::Failed | Kind::End => 8 * 1024,
            Kind::Request | Kind::Reply | Kind::Changed => MAX_MESSAGE,
            Kind::Alive => 0,
            // One number: ten bytes of seven bits hold 64.
            Kind::Begin | Kind::Hole => 10,
            Kind::Copy => 20,
            Kind::Data | Kind::Packed => MAX_DATA,
        }
    }
}

/// Why there is no next frame.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The stream failed or ended.
    Io(io::Error),
    /// The peer broke this rule of the protocol.
    Broken(String),
}

impl FrameError {
    pub(crate) fn broken(rule: impl Into<String>) -> FrameError {
        FrameError::Broken(rule.into())
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> FrameError {
        FrameError::Io(error)
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Io(error) => error.fmt(f),
            FrameError::Broken(rule) => write!(f, "the peer broke the protocol: {rule}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Writes one frame. One beyond its kind's limit is an error, and nothing is written.
pub(crate) fn write_frame(output: &mut dyn Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let too_long =
        || io::Error::new(io::ErrorKind::InvalidInput, format!("a {kind:?} frame is too long to send"));
    if payload.len() > kind.limit() {
        return Err(too_long());
    }
    let length = u32::try_from(payload.len()).map_err(|_| too_long())?;
    let mut header = [0; 5];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind as u8;
    output.write_all(&header)?;
    output.write_all(payload)
}

/// Writes one frame with a value.
pub(crate) fn write_value<T: Serialize>(output: &mut dyn Write, kind: Kind, value: &T) -> io::Result<()> {
    let payload =
        postcard::to_stdvec(value).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    write_frame(output, kind, &payload)
}

/// Reads the next frame's payload into `payload`; `None` when the stream ended before it.
pub(crate) fn read_frame(input: &mut dyn Read, payload: &mut Vec<u8>) -> Result<Option<Kind>, FrameError> {
    payload.clear();
    let mut header = [0; 5];
    let mut have = 0;
    while have < header.len() {
        match input.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(truncated()),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let [a, b, c, d, code] = header;
    let kind = Kind::of(code).ok_or_else(|| FrameError::broken(format!("a frame of unknown kind {code}")))?;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > kind.limit() {
        let limit = kind.limit();
        return Err(FrameError::broken(format!("a {kind:?} frame of {length} bytes, more than {limit}")));
    }
    // Grows with what arrives, not with what was announced.
    let read = input.take(length as u64).read_to_end(payload)?;
    if read < length {
        return Err(truncated());
    }
    Ok(Some(kind))
}

fn truncated() -> FrameError {
    FrameError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended within a frame"))
}

/// The value in a payload, which must be all of it.
pub(crate) fn decode<T: DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(FrameError::broken(format!("bytes follow the value in a {kind:?} frame"))),
        Err(error) => Err(FrameError::broken(format!("a malformed {kind:?} frame: {error}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(mut bytes: &[u8]) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
        let mut frames = Vec::new();
        let mut payload = Vec::new();
        while let Some(kind) = read_frame(&mut bytes, &mut payload)? {
            frames.push((kind, payload.clone()));
        }
        Ok(frames)
    }

    fn frame(length: u32, code: u8, payload: &[u8]) -> Vec<u8> {
        [&length.to_le_bytes()[..], &[code], payload].concat()
    }

    #[test]
    fn frames_are_read_as_written() {
        let mut bytes = Vec::new();
        let longest = vec![7; MAX_DATA];
        write_frame(&mut bytes, Kind::Alive, b"").unwrap();
        write_frame(&mut bytes, Kind::Data, &longest).unwrap();
        write_value(&mut bytes, Kind::Begin, &u64::MAX).unwrap();
        let frames = read_all(&bytes).unwrap();
        assert_eq!(frames[..2], [(Kind::Alive, vec![]), (Kind::Data, longest)]);
        assert_eq!(decode::<u64>(Kind::Begin, &frames[2].1).unwrap(), u64::MAX);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for (bytes, rule) in [
            (frame(u32::MAX, 7, b""), "a Data frame of 4294967295 bytes, more than 262144"),
            (frame(0x8000_0000, 2, b""), "a Request frame of 2147483648 bytes"),
            (frame(1, 5, b"x"), "a Alive frame of 1 bytes, more than 0"),
            (frame(0, 0, b""), "a frame of unknown kind 0"),
            (frame(0, 255, b""), "a frame of unknown kind 255"),
        ] {
            let error = read_all(&bytes).unwrap_err();
            assert!(error.to_string().contains(rule), "{error}");
        }
    }

    #[test]
    fn truncated_frames_are_an_end_not_a_frame() {
        let whole = frame(4, 7, b"abcd");
        for cut in 1..whole.len() {
            let FrameError::Io(error) = read_all(&whole[..cut]).unwrap_err() else {
                unreachable!("cut at {cut}");
            };
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut payload = Vec::new();
        let bytes = frame(8 * 1024 * 1024, 2, b"ab");
        assert!(read_frame(&mut &bytes[..], &mut payload).is_err());
        assert!(payload.capacity() < 64 * 1024, "{}", payload.capacity());
    }

    #[test]
    fn numbers_have_one_form() {
        let overlong = [&[0x80; 10][..], &[0]].concat();
        let beyond = [&[0xff; 9][..], &[0x02]].concat();
        for payload in [&overlong[..], &beyond, &[0x80], b"", &[1, 0]] {
            let error = decode::<u64>(Kind::Hole, payload).unwrap_err();
            assert!(matches!(error, FrameError::Broken(_)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes: Vec<u8>) {
            if let Ok(frames) = read_all(&bytes) {
                let mut again = Vec::new();
                for (kind, payload) in frames {
                    write_frame(&mut again, kind, &payload).unwrap();
                }
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
