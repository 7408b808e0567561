//! Names as text: lossless, and harmless to a log, a terminal and JSON.
//!
//! A name is bytes chosen by whoever can create a file, on this host or on another one (see
//! `docs/security.md`). It reaches a reader only through here.

use std::fmt::Write as _;

/// For machines: `\`, control bytes and bytes that are not UTF-8 stand as `\xNN`.
///
/// Lossless: distinct names give distinct text.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    escape_where(bytes, |c| c.is_ascii_control())
}

/// For people: as [`escape`], and Unicode's control and format characters (Cc, Cf) too, which could
/// reorder or hide what a terminal shows.
#[must_use]
pub fn escape_for_people(bytes: &[u8]) -> String {
    escape_where(bytes, |c| c.is_control() || is_format(c))
}

/// A sentence for people whose names are escaped already: only what could harm a reader stands as `\xNN`.
#[must_use]
pub fn clean(text: &str) -> String {
    let is_hidden = |c: char| c.is_control() || is_format(c);
    if !text.contains(is_hidden) {
        return text.to_owned();
    }
    let parts = text.split_inclusive('\\').map(|part| match part.strip_suffix('\\') {
        Some(part) => escape_for_people(part.as_bytes()) + "\\",
        None => escape_for_people(part.as_bytes()),
    });
    parts.collect()
}

/// A sentence without the system's numbers of errors, which say nothing that its words do not.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain.push_str(rest),
            _ => plain.extend([" (os error ", part]),
        }
    }
    plain
}

/// The bytes that [`escape`] made this text of; none when it is no such text.
#[must_use]
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.strip_prefix('x')?.split_at_checked(2)?;
        if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

fn escape_where(bytes: &[u8], is_hidden: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    let hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || is_hidden(c) {
                hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// Unicode 16 general category Cf, and the line and paragraph separators that break a log line alike.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{0600}'..='\u{0605}' | '\u{061C}' | '\u{06DD}' | '\u{070F}'
        | '\u{0890}'..='\u{0891}' | '\u{08E2}' | '\u{180E}' | '\u{200B}'..='\u{200F}'
        | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}' | '\u{13430}'..='\u{1343F}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0001}' | '\u{E0020}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sentence_keeps_its_escaped_names() {
        assert_eq!(clean("a\\x0ab: no\nroom\u{202e}"), "a\\x0ab: no\\x0aroom\\xe2\\x80\\xae");
        assert_eq!(clean("plain \\ é"), "plain \\ é");
    }

    #[test]
    fn what_could_harm_a_reader_is_escaped() {
        for (bytes, machines, people) in [
            (&b"a b'$(x).wav"[..], "a b'$(x).wav", "a b'$(x).wav"),
            (b"two\nlines", "two\\x0alines", "two\\x0alines"),
            (b"\x1b[31m", "\\x1b[31m", "\\x1b[31m"),
            (b"back\\slash", "back\\x5cslash", "back\\x5cslash"),
            (b"\xff\xfe", "\\xff\\xfe", "\\xff\\xfe"),
            ("é".as_bytes(), "é", "é"),
            ("a\u{202e}b".as_bytes(), "a\u{202e}b", "a\\xe2\\x80\\xaeb"),
            ("a\u{85}b".as_bytes(), "a\u{85}b", "a\\xc2\\x85b"),
        ] {
            assert_eq!(escape(bytes), machines);
            assert_eq!(escape_for_people(bytes), people);
        }
    }

    #[test]
    fn words_do_without_numbers() {
        for (text, expected) in [
            ("a: No such file or directory (os error 2)", "a: No such file or directory"),
            ("a: b (os error 2): c (os error 13); d", "a: b: c; d"),
            ("a (os error x)", "a (os error x)"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(bytes: Vec<u8>) {
            prop_assert_eq!(unescape(&escape(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn other_text_is_not_unescaped() {
        for text in ["\\", "\\n", "\\x", "\\x4", "\\xzz", "\\x+1", "a\\"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}
