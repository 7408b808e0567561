//! Which paths are kept out, and which symlinks lead out. Pure: nothing here looks at a disk.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::model::path::PATH_MAX;
use crate::model::reserved::{is_of_filesystem, is_reserved};
use crate::model::{RelPath, RelPathBuf};

/// Longest glob in bytes, as long as the longest path. Braces nest, and what compiles them recurses: a longer one
/// could take more stack than there is.
const MAX_GLOB: usize = PATH_MAX;

/// The exclusion rules of one directory.
#[derive(Debug)]
pub struct Rules {
    /// Of everything.
    any: Globs,
    /// Of directories alone.
    dirs: Globs,
    /// Roots of other directories.
    carved: BTreeSet<RelPathBuf>,
}

#[derive(Debug)]
struct Globs {
    /// Those without a slash; they match a name.
    names: GlobSet,
    /// Those with one; they match the whole path.
    paths: GlobSet,
}

impl Globs {
    fn matches(&self, path: &RelPath) -> bool {
        (!self.names.is_empty() && self.names.is_match(OsStr::from_bytes(path.name())))
            || (!self.paths.is_empty() && self.paths.is_match(OsStr::from_bytes(path.as_bytes())))
    }
}

struct GlobsBuilder {
    names: GlobSetBuilder,
    paths: GlobSetBuilder,
}

impl GlobsBuilder {
    fn new() -> GlobsBuilder {
        GlobsBuilder { names: GlobSetBuilder::new(), paths: GlobSetBuilder::new() }
    }

    fn build(self) -> Result<Globs, String> {
        // Each glob is fine; what can fail here is their number.
        let build = |set: GlobSetBuilder| set.build().map_err(|error| format!("exclude: {error}"));
        Ok(Globs { names: build(self.names)?, paths: build(self.paths)? })
    }
}

impl Rules {
    /// From globs in [`globset`]'s syntax and the paths of other directories' roots.
    ///
    /// As in rsync and git: a glob without `/` matches the name at any depth, one with `/` at its beginning or in its
    /// middle the path from the root, and one with `/` at its end matches directories only. So `/a.conf` matches at
    /// the top alone, and `cache/` every directory `cache`. The error is for the administrator and names the glob.
    pub fn new(globs: &[String], carved: Vec<RelPathBuf>) -> Result<Rules, String> {
        let (mut any, mut dirs) = (GlobsBuilder::new(), GlobsBuilder::new());
        for glob in globs {
            if glob.len() > MAX_GLOB {
                let length = glob.len();
                return Err(format!("exclude: a pattern of {length} bytes, more than {MAX_GLOB}"));
            }
            let (pattern, builder) = match glob.strip_suffix('/') {
                Some(pattern) => (pattern, &mut dirs),
                None => (&**glob, &mut any),
            };
            let set = if pattern.contains('/') { &mut builder.paths } else { &mut builder.names };
            let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
            let built = GlobBuilder::new(pattern).literal_separator(true).build();
            set.add(built.map_err(|error| format!("exclude {glob:?}: {}", error.kind()))?);
        }
        Ok(Rules { any: any.build()?, dirs: dirs.build()?, carved: carved.into_iter().collect() })
    }

    /// Whether a rule keeps `path` itself out, whatever stands there. What lies below an excluded directory is never
    /// asked.
    #[must_use]
    pub fn excludes(&self, path: &RelPath) -> bool {
        // Also our own directory in one that was a root: its trash and stage are no content either.
        is_reserved(path.name())
            || is_of_filesystem(path.name(), path.parent().is_none())
            || self.carved.contains(path)
            || self.any.matches(path)
    }

    /// The same of a path where a directory stands. A symlink to one is none.
    #[must_use]
    pub fn excludes_dir(&self, path: &RelPath) -> bool {
        self.excludes(path) || self.dirs.matches(path)
    }

    /// Whether a rule keeps out what is no directory at `path`, or anything that it is in: for a path that no scan
    /// came to.
    #[must_use]
    pub fn keeps_out(&self, path: &RelPath) -> bool {
        self.excludes(path) || path.ancestors().any(|dir| self.excludes_dir(dir))
    }
}

/// Why a valid glob can match nothing that is meant by it, and what to write instead; `None`: it may match.
#[must_use]
pub(crate) fn without_effect(glob: &str) -> Option<String> {
    let instead = |text: &str| if text.is_empty() { String::new() } else { format!("; write '{text}'") };
    if let Some(rest) = glob.strip_prefix('!') {
        return Some(format!(
            "'!' at the beginning means nothing here, a pattern can only exclude; for names that begin with it write '\\!{rest}'"
        ));
    }
    for sign in ["- ", "+ ", "# "] {
        if let Some(rest) = glob.strip_prefix(sign) {
            let why = if sign == "- " { instead(rest) } else { "; leave it out".to_owned() };
            return Some(format!("'{sign}' is of rsync's rule files, a pattern stands here alone{why}"));
        }
    }
    if glob.trim() != glob {
        return Some(format!(
            "a blank at its beginning or end is part of the pattern{}",
            instead(glob.trim())
        ));
    }
    if let Some(rest) = glob.strip_prefix("~/") {
        return Some(format!(
            "'~' is no home directory here, paths begin at the directory's root{}",
            instead(rest)
        ));
    }
    // Separators within braces or brackets are the glob's own business.
    let names: Vec<&str> = glob.trim_matches('/').split('/').collect();
    if names.contains(&"..") {
        return Some("no path has '..' in it; write the path from the directory's root".to_owned());
    }
    if names.iter().any(|name| matches!(*name, "" | ".")) || glob.starts_with("//") || glob.ends_with("//") {
        let plain: Vec<&str> = names.into_iter().filter(|name| !matches!(*name, "" | ".")).collect();
        // `./x` is the one at the top.
        let top = if glob.starts_with(['.', '/']) { "/" } else { "" };
        let end = if glob.ends_with('/') { "/" } else { "" };
        return Some(format!(
            "no path has '.' or nothing between two '/'{}",
            instead(&format!("{top}{}{end}", plain.join("/")))
        ));
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> RelPathBuf {
        RelPathBuf::new(bytes).unwrap()
    }

    fn excluded(globs: &[&str], carved: &[&str], of: &[u8], is_dir: bool) -> bool {
        let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
        let carved = carved.iter().map(|root| path(root.as_bytes())).collect();
        let rules = Rules::new(&globs, carved).unwrap();
        if is_dir { rules.excludes_dir(&path(of)) } else { rules.excludes(&path(of)) }
    }

    macro_rules! excluded {
        ($name:ident, $globs:expr, $path:expr) => {
            #[test]
            fn $name() {
                assert!(excluded(&$globs, &["carved/root"], $path.as_ref(), true));
            }
        };
    }

    macro_rules! included {
        ($name:ident, $globs:expr, $path:expr) => {
            #[test]
            fn $name() {
                assert!(!excluded(&$globs, &["carved/root"], $path.as_ref(), true));
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
    excluded!(of_the_filesystem, [], "lost+found");
    included!(of_no_filesystem_below_the_top, [], "a/lost+found");
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

    #[test]
    fn a_slash_behind_matches_directories_only() {
        for (glob, at, is_dir, out) in [
            ("cache/", "cache", true, true),
            ("cache/", "cache", false, false),
            ("cache/", "a/cache", true, true),
            ("cache/", "a/cache", false, false),
            ("a/cache/", "a/cache", true, true),
            ("a/cache/", "a/cache", false, false),
            ("a/cache/", "b/a/cache", true, false),
            ("/cache/", "cache", true, true),
            ("/cache/", "cache", false, false),
            ("/cache/", "a/cache", true, false),
            ("*.d/", "x.d", true, true),
            ("*.d/", "x.d", false, false),
            ("cache", "cache", true, true),
            ("cache", "cache", false, true),
            ("xds*/", "xds_override", false, true),
        ] {
            assert_eq!(excluded(&[glob], &[], at.as_bytes(), is_dir), out, "{glob} {at} directory: {is_dir}");
        }
    }

    #[test]
    fn what_an_excluded_directory_holds_is_out_and_what_a_file_was_is_not() {
        let rules = Rules::new(&["cache/".to_owned()], Vec::new()).unwrap();
        for (at, out) in [("cache/x", true), ("a/cache/x", true), ("cache", false), ("a/x", false)] {
            assert_eq!(rules.keeps_out(&path(at.as_bytes())), out, "{at}");
        }
    }

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
    fn what_can_match_nothing_is_told_with_what_to_write() {
        for (glob, instead) in [
            ("tmp/", None),
            ("/tmp", None),
            ("/tmp/*", None),
            ("tmp/**", None),
            ("**/tmp/**", None),
            ("*.{bak,BAK}", None),
            ("#*#", None),
            (".*", None),
            ("*~", None),
            ("[!a]*", None),
            ("a b", None),
            ("./tmp", Some("'/tmp'")),
            ("./tmp/", Some("'/tmp/'")),
            ("a/./b", Some("'a/b'")),
            ("a//b", Some("'a/b'")),
            ("//a", Some("'/a'")),
            ("../a", Some("'..'")),
            ("a/..", Some("'..'")),
            ("!*.conf", Some("'\\!*.conf'")),
            ("- *.bak", Some("'*.bak'")),
            ("+ *.conf", Some("leave it out")),
            ("# old ones", Some("leave it out")),
            ("*.bak ", Some("'*.bak'")),
            ("~/tmp", Some("'tmp'")),
            (".", Some("'.'")),
        ] {
            let told = without_effect(glob);
            assert_eq!(told.is_some(), instead.is_some(), "{glob}: {told:?}");
            assert!(told.unwrap_or_default().contains(instead.unwrap_or_default()), "{glob}");
        }
        assert!(excluded(&["\\!x"], &[], b"!x", false), "what is to be written for a name with it");
    }

    #[test]
    fn a_broken_glob_is_named() {
        let error = Rules::new(&["a[".to_owned()], Vec::new()).unwrap_err();
        assert!(error.contains("\"a[\""), "{error}");
    }
}
