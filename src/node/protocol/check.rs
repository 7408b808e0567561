//! What a well-formed value from the peer must be in addition.

use std::sync::Arc;

use super::frame::FrameError;
use super::limits::{MAX_ID, MAX_NAME, MAX_TEXT};
use super::message::Basis;
use crate::disk::OWN_DIR;
use crate::model::escape::escape_for_people;
use crate::model::{Action, Entry, EntryProblem, File, Meta, Owner, RelPath, Step, Tree};
use crate::node::error::Refusal;
use crate::transfer::Signature;
use crate::transfer::trash::TrashEntry;

/// A path outside our own directory, which is part of no tree.
pub(crate) fn path(path: &RelPath) -> Result<(), FrameError> {
    if path.names().any(|name| name == OWN_DIR.as_bytes()) {
        return Err(FrameError::broken(format!("{} lies in {OWN_DIR}", path.for_people())));
    }
    Ok(())
}

/// The tree of a peer: nothing of it may lead out of the root, or into our own directory.
pub(crate) fn tree(tree: &Tree) -> Result<(), FrameError> {
    for (at, entry) in tree.iter() {
        match entry {
            Entry::Symlink(link) if link.escapes(at) => {
                return Err(FrameError::broken(format!("the symlink {} leads out", at.for_people())));
            }
            Entry::Excluded => {}
            Entry::Problem(EntryProblem::Unreadable(why)) if text(why) != **why => {
                return Err(FrameError::broken(format!(
                    "the reason why {} cannot be read is not one harmless line",
                    at.for_people()
                )));
            }
            Entry::Dir(meta) | Entry::File(File { meta, .. }) => {
                path(at)?;
                owner(&meta.owner)?;
            }
            _ => path(at)?,
        }
    }
    Ok(())
}

/// An action for this host.
pub(crate) fn action(action: &Action) -> Result<(), FrameError> {
    path(&action.path)?;
    action.expected.as_ref().map_or(Ok(()), expected)?;
    match &action.step {
        Step::Put(entry) | Step::SetMeta(entry) => result(&action.path, entry),
        Step::Move { from, from_expected, entry } => {
            path(from)?;
            expected(from_expected)?;
            result(&action.path, entry)
        }
        Step::Delete => Ok(()),
    }
}

/// The signatures that came with a request for so many files, by the index of the file: at most one of each.
pub(crate) fn bases(bases: Vec<Basis>, requested: usize) -> Result<Vec<Option<Arc<Signature>>>, FrameError> {
    let mut signatures = Vec::new();
    if !bases.is_empty() {
        signatures.resize(requested, None);
    }
    for Basis { index, signature: sent } in bases {
        let signature = signatures.get_mut(index as usize).filter(|signature| signature.is_none());
        let signature = signature.ok_or_else(|| {
            FrameError::broken(format!(
                "expected at most one basis of each of {requested} files, got one of {index}"
            ))
        })?;
        *signature = Some(sound(sent)?);
    }
    Ok(signatures)
}

/// A signature that can be that of a file.
pub(crate) fn sound(signature: Arc<Signature>) -> Result<Arc<Signature>, FrameError> {
    if signature.is_sound() {
        Ok(signature)
    } else {
        Err(FrameError::broken("a signature that no file can have"))
    }
}

/// What lies in the trash of a peer, at or below the path that it was asked for.
pub(crate) fn trash_entry(entry: &TrashEntry, asked: &RelPath) -> Result<(), FrameError> {
    let at = &entry.place.path;
    path(at)?;
    if **at != *asked && !at.is_below(asked) {
        return Err(FrameError::broken(format!("a version of {}, which was not asked for", at.for_people())));
    }
    Ok(())
}

/// What a peer has in its trash, for this path of this host.
pub(crate) fn recalled(at: &RelPath, entry: &Entry) -> Result<(), FrameError> {
    match entry {
        Entry::File(_) | Entry::Symlink(_) => result(at, entry),
        _ => {
            Err(FrameError::broken(format!("expected a file or symlink in the trash at {}", at.for_people())))
        }
    }
}

fn result(at: &RelPath, entry: &Entry) -> Result<(), FrameError> {
    match entry {
        Entry::Symlink(link) if link.escapes(at) => {
            Err(FrameError::broken(format!("the symlink {} leads out", at.for_people())))
        }
        entry if entry.is_opaque() => {
            Err(FrameError::broken(format!("no entry that can be put at {}", at.for_people())))
        }
        entry => expected(entry),
    }
}

fn expected(entry: &Entry) -> Result<(), FrameError> {
    match entry {
        Entry::Dir(meta) => mode_and_owner(meta, 0o3777),
        Entry::File(File { meta, .. }) => mode_and_owner(meta, 0o777),
        Entry::Symlink(link) if link.target.len() > MAX_NAME => {
            Err(FrameError::broken("a symlink's target is too long"))
        }
        Entry::Symlink(_) | Entry::Excluded | Entry::Busy(_) | Entry::Problem(_) => Ok(()),
    }
}

/// Mode and owner of a directory, or what a peer's disk keeps of those of any entry.
pub(crate) fn meta(meta: &Meta) -> Result<(), FrameError> {
    mode_and_owner(meta, 0o3777)
}

fn mode_and_owner(meta: &Meta, carried: u16) -> Result<(), FrameError> {
    if meta.mode & !carried != 0 {
        return Err(FrameError::broken(format!("mode {:o} has bits that are not synchronized", meta.mode)));
    }
    owner(&meta.owner)
}

/// Names of bounded length that are one harmless word in a report.
pub(crate) fn owner(owner: &Owner) -> Result<(), FrameError> {
    for name in [owner.user(), owner.group()].into_iter().flatten() {
        if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
            return Err(FrameError::broken("an owner's name is empty, too long or not one line"));
        }
    }
    Ok(())
}

/// The id of a run, marker or base.
pub(crate) fn id(id: &str) -> Result<(), FrameError> {
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(FrameError::broken(
            "an id that is empty, too long or not of letters, digits and hyphens",
        ));
    }
    Ok(())
}

/// A text of this host, cut to what may be sent.
pub(crate) fn clip(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT - '…'.len_utf8()).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// A refusal of this host, its reason cut to what may be sent.
pub(crate) fn clip_refusal(refusal: Refusal) -> Refusal {
    refusal.map_detail(|detail| clip(detail.to_owned()))
}

/// A refusal of the peer, its reason made harmless.
pub(crate) fn refusal(refusal: Refusal) -> Refusal {
    refusal.map_detail(text)
}

/// A text of the peer, harmless in a log or terminal: one line, cut. Backslashes stay as they are: the
/// peer escapes paths in its texts as we do.
pub(crate) fn text(text: &str) -> String {
    let parts: Vec<String> = text.trim().split('\\').map(|part| escape_for_people(part.as_bytes())).collect();
    clip(parts.join("\\"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Digest, RelPathBuf, Symlink};

    fn put(at: &str, entry: Entry) -> Action {
        Action { path: RelPathBuf::new(at.as_bytes()).unwrap(), expected: None, step: Step::Put(entry) }
    }

    fn file(mode: u16) -> Entry {
        let meta = Meta { mode, owner: Owner::new(Some("asterisk"), None) };
        Entry::File(File { size: 1, mtime: 0, digest: Digest([0; 32]), meta })
    }

    fn link(target: &str) -> Entry {
        Entry::Symlink(Symlink { target: target.as_bytes().into() })
    }

    #[test]
    fn what_an_action_may_be() {
        let dir = |mode| Entry::Dir(Meta { mode, owner: Owner::default() });
        for (action, allowed) in [
            (put("a", file(0o777)), true),
            (put("a", file(0o4755)), false),
            (put("a", file(0o1644)), false),
            (put("a", dir(0o2775)), true),
            (put("a", dir(0o4775)), false),
            (put("d/a", link("../b")), true),
            (put("d/a", link("../../b")), false),
            (put("a", link("/etc")), false),
            (put("a", link("")), false),
            (put("a", Entry::Excluded), false),
            (put("a", Entry::Problem(EntryProblem::Special)), false),
            (put(".xds-sync/stage/a", file(0o644)), false),
            (put("d/.xds-sync", dir(0o755)), false),
            (
                Action {
                    expected: Some(Entry::Problem(EntryProblem::EscapingLink)),
                    ..put("a", file(0o644))
                },
                true,
            ),
            (
                Action {
                    step: Step::Move {
                        from: RelPathBuf::new(&b".xds-sync/root.json"[..]).unwrap(),
                        from_expected: Box::new(file(0o644)),
                        entry: file(0o644),
                    },
                    ..put("a", file(0o644))
                },
                false,
            ),
        ] {
            assert_eq!(super::action(&action).is_ok(), allowed, "{action:?}");
        }
    }

    #[test]
    fn what_a_tree_says_is_harmless_in_a_report() {
        let dir = |user: &str| Entry::Dir(Meta { mode: 0o755, owner: Owner::new(Some(user), None) });
        let unreadable = |why: &str| Entry::Problem(EntryProblem::Unreadable(why.into()));
        for (entry, allowed) in [
            (dir("asterisk"), true),
            (dir("a\x1b[2J"), false),
            (dir("a\nb"), false),
            (unreadable("Permission denied"), true),
            (unreadable("no\x1b]0;owned\x07"), false),
            (unreadable("two\nlines"), false),
            (unreadable(&"x".repeat(MAX_TEXT + 1)), false),
        ] {
            let tree = [(RelPathBuf::new(&b"a"[..]).unwrap(), entry.clone())].into_iter().collect();
            assert_eq!(super::tree(&tree).is_ok(), allowed, "{entry:?}");
        }
    }

    #[test]
    fn texts_are_one_harmless_line() {
        for (from, to) in [
            ("plain\n", "plain"),
            ("two\nlines", "two\\x0alines"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("a\\x0ab.wav is open", "a\\x0ab.wav is open"),
            ("a\u{202e}b", "a\\xe2\\x80\\xaeb"),
        ] {
            assert_eq!(text(from), to);
        }
        let long = text(&"é".repeat(MAX_TEXT));
        assert!(long.len() <= MAX_TEXT && long.ends_with("é…"), "{long}");
    }
}
