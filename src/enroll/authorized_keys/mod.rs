//! A node's `~/.ssh/authorized_keys`: the line that lets Main log in, among lines of others.
//!
//! The format is that of sshd(8), AUTHORIZED_KEYS FILE FORMAT. What the file becomes is decided by pure functions
//! over its bytes; lines of others stay byte for byte. `ssh_key::authorized_keys::Entry` cannot read the lines:
//! it ends the options at the first space, even inside of quotes, as in our own `command="xds-sync agent"`.

mod file;
mod line;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::model::steps::step;
use anyhow::Context as _;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};

pub(crate) use file::{Changed, change, path_below, read};
pub use line::KeyLine;
use line::Parsed;

/// The file's bytes with this line in it, once: in the place of the first line of the same Main or with the same
/// key, else at the end. All other lines stay as they are.
pub fn with(before: &[u8], new: &KeyLine) -> anyhow::Result<Vec<u8>> {
    let text = new.line()?;
    let mut after = Vec::with_capacity(before.len() + text.len() + 1);
    let mut placed = false;
    for line in lines(before) {
        if !line.has_key(&new.key) && !line.is_of(&new.main) {
            after.extend_from_slice(line.whole);
        } else if !placed {
            placed = true;
            after.extend_from_slice(text.as_bytes());
            after.extend_from_slice(line.end);
        }
    }
    if !placed {
        if after.last().is_some_and(|&last| last != b'\n') {
            after.push(b'\n');
        }
        after.extend_from_slice(text.as_bytes());
        after.push(b'\n');
    }
    Ok(after)
}

/// The file's bytes without the lines of one Main.
#[must_use]
pub fn without(before: &[u8], main: &str) -> Vec<u8> {
    lines(before).filter(|line| !line.is_of(main)).flat_map(|line| line.whole).copied().collect()
}

/// The file's bytes with a line for `new` after each one for `old`, with the same options and comment, and without any
/// other line of the same Main: a key has one successor at a time. `None` where no line is for `old`, unless `new` is
/// there already.
pub fn beside(before: &[u8], old: &KeyData, new: &KeyData) -> anyhow::Result<Option<Vec<u8>>> {
    let is_there = has(before, new);
    let of_main = lines_of_main(before, &[old, new]);
    let mut after = Vec::with_capacity(before.len() * 2);
    let mut found = is_there;
    for (line, is_of_main) in lines(before).zip(of_main) {
        let is_old = line.has_key(old);
        if is_of_main && !is_old && !line.has_key(new) {
            continue;
        }
        after.extend_from_slice(line.whole);
        let Some(parsed) = line.parsed.as_ref().filter(|_| is_old && !is_there) else { continue };
        found = true;
        // The last line may have no newline, or a carriage return alone.
        if !line.end.ends_with(b"\n") {
            after.push(b'\n');
        }
        let key = PublicKey::new(new.clone(), parsed.comment).to_openssh();
        let key = key.context("writing a public key as text")?;
        after.extend_from_slice(format!("{}{key}", parsed.options).as_bytes());
        after.extend_from_slice(line.end);
    }
    Ok(found.then_some(after))
}

/// The file's bytes without the lines for `old`, and without any other line of the same Main but those for `new`.
#[must_use]
pub fn with_new_alone(before: &[u8], old: &KeyData, new: &KeyData) -> Vec<u8> {
    let of_main = lines_of_main(before, &[old, new]);
    let kept = lines(before)
        .zip(of_main)
        .filter(|(line, is_of_main)| line.has_key(new) || (!is_of_main && !line.has_key(old)));
    kept.flat_map(|(line, _)| line.whole).copied().collect()
}

/// Of each line, whether it is of the same Main as one with these keys.
fn lines_of_main(content: &[u8], keys: &[&KeyData]) -> Vec<bool> {
    let known = lines(content).filter(|line| keys.iter().any(|key| line.has_key(key)));
    let known: Vec<Parsed<'_>> = known.filter_map(|line| line.parsed).collect();
    let is_of_main = |line: Line<'_>| {
        line.parsed.is_some_and(|parsed| known.iter().any(|known| known.is_of_same_main(&parsed)))
    };
    lines(content).map(is_of_main).collect()
}

/// The lines of this program, whichever Main they are of: algorithm, fingerprint and comment of each.
#[must_use]
pub fn ours(content: &[u8]) -> Vec<String> {
    let ours = lines(content).filter_map(|line| line.parsed).filter(Parsed::is_ours);
    ours.map(|parsed| {
        let key = parsed.key.map(|key| format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)));
        format!("{} {}", key.as_deref().unwrap_or("a key of an unknown kind"), parsed.comment.trim())
    })
    .collect()
}

/// Whether a line is for this key.
#[must_use]
pub fn has(content: &[u8], key: &KeyData) -> bool {
    lines(content).any(|line| line.has_key(key))
}

/// Every Main that may log in, as it was named, without repetition.
#[must_use]
pub fn mains(content: &[u8]) -> Vec<String> {
    let mut known = HashSet::new();
    let mains = lines(content).filter_map(|line| line.main());
    mains.filter(|main| known.insert(host_of(main).to_ascii_lowercase())).map(str::to_owned).collect()
}

/// Whether two names of a Main mean the same host: the port at which it publishes its key may change.
#[must_use]
pub fn same_host(a: &str, b: &str) -> bool {
    host_of(a).eq_ignore_ascii_case(host_of(b))
}

fn host_of(main: &str) -> &str {
    step();
    if let Some((host, _)) = main.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return host;
    }
    match main.split_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some((host, port)) if !port.contains(':') => host,
        _ => main,
    }
}

/// A line as it stands in the file.
struct Line<'a> {
    /// With its end.
    whole: &'a [u8],
    /// `\n`, `\r\n` or, at the end of the file, less.
    end: &'a [u8],
    /// `None` for what is no key to sshd.
    parsed: Option<Parsed<'a>>,
}

fn lines(content: &[u8]) -> impl Iterator<Item = Line<'_>> {
    content.split_inclusive(|&byte| byte == b'\n').map(|whole| {
        let text = whole.strip_suffix(b"\n").unwrap_or(whole);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let end = whole.get(text.len()..).unwrap_or_default();
        Line { whole, end, parsed: Parsed::parse(text) }
    })
}

impl<'a> Line<'a> {
    fn has_key(&self, key: &KeyData) -> bool {
        self.parsed.as_ref().is_some_and(|parsed| parsed.key.as_ref() == Some(key))
    }

    fn is_of(&self, main: &str) -> bool {
        self.main().is_some_and(|of| same_host(of, main))
    }

    fn main(&self) -> Option<&'a str> {
        self.parsed.as_ref().and_then(Parsed::main)
    }
}
