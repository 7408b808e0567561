//! What may have changed in a directory.

use std::collections::BTreeSet;

use crate::model::{RelPath, RelPathBuf};

/// Most paths that are told apart. Beyond it the directories that they are in stand for them.
const MOST: usize = 1000;

/// What may have changed in a directory. A path stands for all that is below it as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirt {
    paths: BTreeSet<RelPathBuf>,
    whole: bool,
}

impl Dirt {
    /// Anything may have changed.
    #[must_use]
    pub fn whole() -> Dirt {
        Dirt { paths: BTreeSet::new(), whole: true }
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.paths.is_empty()
    }

    /// How many paths; `None`: it cannot be said.
    #[must_use]
    pub fn len(&self) -> Option<usize> {
        (!self.whole).then_some(self.paths.len())
    }

    /// Whether a change of `path` is among what may have changed.
    #[must_use]
    pub fn covers(&self, path: &RelPath) -> bool {
        let has = |path: &RelPath| self.paths.contains(path);
        self.whole || has(path) || path.ancestors().any(has)
    }

    /// This path may have changed.
    pub fn add(&mut self, path: &RelPath) {
        if self.covers(path) {
            return;
        }
        self.paths.insert(path.to_owned());
        if self.paths.len() > MOST {
            self.collapse();
        }
    }

    /// All that may have changed in `other` may have changed here.
    pub fn merge(&mut self, other: &Dirt) {
        if other.whole {
            *self = Dirt::whole();
        }
        other.paths.iter().for_each(|path| self.add(path));
    }

    /// Lets directories stand for what is in them.
    fn collapse(&mut self) {
        let parents: Option<BTreeSet<RelPathBuf>> =
            self.paths.iter().map(|path| path.parent().map(RelPath::to_owned)).collect();
        match parents {
            Some(parents) if parents.len() <= MOST / 2 => {
                self.paths.clear();
                parents.iter().for_each(|path| self.add(path));
            }
            _ => *self = Dirt::whole(),
        }
    }
}
