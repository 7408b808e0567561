//! What stops a directory, or one edge of it, before anything is touched.

use std::collections::BTreeSet;

use crate::model::escape::plain;
use crate::model::{RelPath, RelPathBuf, Tree};
use crate::report::{Guard, Halted};

/// Why a directory, or one edge of it, is left alone in this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Halt {
    pub(super) guard: Guard,
    /// What the guard saw, and what to do.
    pub(super) detail: String,
    /// What releases exactly this plan; `None` where no token can.
    pub(super) token: Option<String>,
    /// Some of the paths that it is about.
    pub(super) paths: Vec<RelPathBuf>,
    /// What is gone on Main alone, see [`Halted`].
    pub(super) restore: Vec<RelPathBuf>,
}

/// So many paths give an idea of what it is about.
const EXAMPLES: usize = 3;

impl Halt {
    pub(super) fn new(guard: Guard, detail: String) -> Halt {
        let detail = plain(&detail);
        Halt { guard, detail, token: None, paths: Vec::new(), restore: Vec::new() }
    }

    /// With the token that releases it.
    pub(super) fn released_by(self, token: &str) -> Halt {
        Halt { token: Some(token.to_owned()), ..self }
    }

    /// With what it is about: files that `main` may or may not have.
    pub(super) fn about(self, paths: &BTreeSet<&RelPath>, main: &Tree) -> Halt {
        let examples = paths.iter().take(EXAMPLES).map(|path| (*path).to_owned()).collect();
        let is_gone_on_main = paths.iter().all(|path| main.get(path).is_none());
        let restore = if is_gone_on_main { tops(paths) } else { Vec::new() };
        Halt { paths: examples, restore, ..self }
    }

    /// As a report tells it: of a directory, for all nodes or for these.
    pub(super) fn told(self, directory: &str, nodes: Vec<String>) -> Halted {
        let Halt { guard, detail, token, paths, restore } = self;
        Halted {
            directory: directory.to_owned(),
            guard,
            detail,
            token,
            nodes,
            paths,
            restore,
            of_follower: false,
        }
    }
}

/// The innermost directory that all of these are in, or the file if there is but one; where they have none in common, what
/// they are in at the top.
fn tops(paths: &BTreeSet<&RelPath>) -> Vec<RelPathBuf> {
    let (Some(first), Some(last)) = (paths.first(), paths.last()) else { return Vec::new() };
    if first == last {
        return vec![(*first).to_owned()];
    }
    let is_common = |dir: &&RelPath| paths.iter().all(|path| path.is_below(dir));
    match first.ancestors().find(is_common) {
        Some(dir) => vec![dir.to_owned()],
        None => {
            let top = |path: &&RelPath| path.ancestors().last().unwrap_or(path).to_owned();
            let tops: BTreeSet<RelPathBuf> = paths.iter().map(top).collect();
            tops.into_iter().collect()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_restored_is_named_by_what_it_is_in() {
        for (paths, expected) in [
            (&[][..], &[][..]),
            (&["en/a.wav"], &["en/a.wav"]),
            (&["en/a.wav", "en/b.wav"], &["en"]),
            (&["en/x/a.wav", "en/x/b.wav", "en/y"], &["en"]),
            (&["en/x/a.wav", "en/x/b/c.wav"], &["en/x"]),
            (&["en/a.wav", "en/b.wav", "fr/a.wav", "x.wav"], &["en", "fr", "x.wav"]),
        ] {
            let paths: Vec<RelPathBuf> =
                paths.iter().map(|path| RelPathBuf::new(path.as_bytes()).unwrap()).collect();
            let tops: Vec<String> =
                tops(&paths.iter().map(|path| &**path).collect()).iter().map(|top| top.escaped()).collect();
            assert_eq!(tops, expected, "{paths:?}");
        }
    }
}
