//! Which paths are kept out, and which symlinks lead out. Pure: nothing here looks at a disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::disk::OWN_DIR;
use crate::model::path::PATH_MAX;
use crate::model::{RelPath, RelPathBuf};

/// Names beginning so are a media server's own, in every directory.
const OVERRIDE_PREFIX: &[u8] = b"xds_override";

/// Longest glob in bytes, as long as the longest path. Braces nest, and what compiles them recurses: a longer one
/// could take more stack than there is.
const MAX_GLOB: usize = PATH_MAX;

/// The exclusion rules of one directory.
#[derive(Debug)]
pub struct Rules {
    /// Globs without a slash; they match a name.
    names: GlobSet,
    /// Globs with one; they match the whole path.
    paths: GlobSet,
    /// Roots of other directories.
    carved: Vec<RelPathBuf>,
}

impl Rules {
    /// From globs in [`globset`]'s syntax and the paths of other directories' roots.
    ///
    /// A glob without `/` matches the name at any depth, one with `/` the path from the root; a slash at
    /// the beginning or end changes only which of the two it is: `/a.conf` matches at the top alone,
    /// `cache/` matches every `cache`. The error is for the administrator and names the glob.
    pub fn new(globs: &[String], carved: Vec<RelPathBuf>) -> Result<Rules, String> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for glob in globs {
            if glob.len() > MAX_GLOB {
                let length = glob.len();
                return Err(format!("exclude: a pattern of {length} bytes, more than {MAX_GLOB}"));
            }
            let pattern = glob.strip_suffix('/').unwrap_or(glob);
            let set = if pattern.contains('/') { &mut paths } else { &mut names };
            let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
            let built = GlobBuilder::new(pattern).literal_separator(true).build();
            set.add(built.map_err(|error| format!("exclude {glob:?}: {}", error.kind()))?);
        }
        // Each glob is fine; what can fail here is their number.
        let build = |set: GlobSetBuilder| set.build().map_err(|error| format!("exclude: {error}"));
        Ok(Rules { names: build(names)?, paths: build(paths)?, carved })
    }

    /// Whether a rule keeps `path` itself out. What lies below an excluded directory is never asked.
    #[must_use]
    pub fn excludes(&self, path: &RelPath) -> bool {
        let name = path.name();
        // A directory that had a root of ours inside it: its trash and stage are no content either.
        name.starts_with(OVERRIDE_PREFIX)
            || name == OWN_DIR.as_bytes()
            || self.carved.iter().any(|root| **root == *path)
            || (!self.names.is_empty() && self.names.is_match(OsStr::from_bytes(name)))
            || (!self.paths.is_empty() && self.paths.is_match(OsStr::from_bytes(path.as_bytes())))
    }

    /// Whether a rule keeps out `path` or anything that it is in: for a path that no scan came to.
    #[must_use]
    pub fn keeps_out(&self, path: &RelPath) -> bool {
        std::iter::once(path).chain(path.ancestors()).any(|path| self.excludes(path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> RelPathBuf {
        RelPathBuf::new(bytes).unwrap()
    }

    fn excluded(globs: &[&str], carved: &[&str], of: &[u8]) -> bool {
        let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
        let carved = carved.iter().map(|root| path(root.as_bytes())).collect();
        Rules::new(&globs, carved).unwrap().excludes(&path(of))
    }

    macro_rules! excluded {
        ($name:ident, $globs:expr, $path:expr) => {
            #[test]
            fn $name() {
                assert!(excluded(&$globs, &["carved/root"], $path.as_ref()));
            }
        };
    }

    macro_rules! included {
        ($name:ident, $globs:expr, $path:expr) => {
            #[test]
            fn $name() {
                assert!(!excluded(&$globs, &["carved/root"], $path.as_ref()));
            }
        };
    }

    excluded!(override_file, [], "xds_override.conf");
    excluded!(override_prefix_alone, [], "xds_override");
    excluded!(override_deep, [], "a/b/xds_overrides");
    included!(override_not_at_the_start, [], "my_xds_override.conf");
    included!(override_is_case_sensitive, [], "XDS_OVERRIDE.conf");
    included!(override_is_of_the_name_not_the_parent, [], "xds_overridden/x");
    excluded!(own_directory_of_a_root_that_was_here, [], "a/.xds-sync");
    included!(not_quite_our_own_directory, [], "a/.xds-synced");
    excluded!(carved_root, [], "carved/root");
    included!(carved_roots_parent, [], "carved");
    included!(carved_roots_neighbour, [], "carved/rooted");
    excluded!(name_at_the_top, ["*.bak"], "a.bak");
    excluded!(name_at_any_depth, ["*.bak"], "a/b/c.bak");
    included!(name_is_whole, ["*.bak"], "a.bak.conf");
    excluded!(name_with_newline, ["*.bak"], "a\nb.bak");
    excluded!(name_beginning_with_a_dot, ["*.bak"], ".bak");
    excluded!(name_not_utf8, ["*.bak"], b"\xff\xfe.bak");
    excluded!(one_byte_that_is_not_utf8, ["a?b"], b"a\xffb");
    excluded!(directory_by_name, ["cache"], "a/cache");
    excluded!(directory_with_a_slash_behind, ["cache/"], "a/cache");
    excluded!(path_from_the_root, ["a/*.bak"], "a/x.bak");
    included!(path_is_from_the_root, ["a/*.bak"], "b/a/x.bak");
    included!(a_star_stays_within_a_name, ["a/*.bak"], "a/b/x.bak");
    excluded!(two_stars_cross, ["a/**/x.bak"], "a/b/c/x.bak");
    excluded!(two_stars_cross_nothing_too, ["a/**/x.bak"], "a/x.bak");
    excluded!(two_stars_at_the_front, ["**/tmp/x"], "a/b/tmp/x");
    excluded!(slash_in_front_is_the_top, ["/a.conf"], "a.conf");
    included!(slash_in_front_is_only_the_top, ["/a.conf"], "b/a.conf");
    excluded!(path_not_utf8, ["a/*"], b"a/\xff");
    excluded!(alternatives, ["*.{swp,tmp}"], "x.tmp");
    excluded!(class, ["[0-9]*"], "7up");
    excluded!(any_of_several, ["*.bak", "*~"], "x~");
    included!(no_globs, [], "a/b");

    /// Of as many braces and stars as one may have, on the stack of a thread.
    #[test]
    fn globs_beyond_reason_are_refused_and_others_end() {
        let nested = |depth: usize| "{".repeat(depth) + &"}".repeat(depth);
        for (glob, refused) in [
            (nested(1_000_000), true),
            (nested(MAX_GLOB / 2), false),
            ("*a".repeat(MAX_GLOB / 2), false),
            ("{a,*}".repeat(MAX_GLOB / 5), false),
        ] {
            let built = std::thread::spawn(move || Rules::new(&[glob], Vec::new())).join().unwrap();
            let length = built.as_ref().is_err_and(|error| error.contains("bytes, more than"));
            assert_eq!(length, refused);
            if let Ok(rules) = built {
                // Time grows with the name, not with what the pattern could be.
                let _ = rules.excludes(&path(&[b'a'; 250]));
            }
        }
    }

    #[test]
    fn a_broken_glob_is_named() {
        let error = Rules::new(&["a[".to_owned()], Vec::new()).unwrap_err();
        assert!(error.contains("\"a[\""), "{error}");
    }
}
