//! Which files Asterisk reads for a configuration file of its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::contexts::lines;
use super::verify::Budget;
use crate::model::escape::escape_for_people;

/// Most files that are looked at.
const MAX_FILES: usize = 10_000;
/// Asterisk follows includes ten deep (`MAX_INCLUDE_LEVEL`).
const MAX_DEPTH: usize = 10;

/// What Asterisk reads for one of its configuration files.
#[derive(Debug, Default)]
pub(super) struct Included {
    /// The file itself and those that it includes, in the order in which they begin, without symlinks.
    pub(super) files: Vec<PathBuf>,
    /// Whether these are all. What `#exec` prints is not known, nor what lies where nothing is read from.
    pub(super) is_whole: bool,
    /// What the file itself includes and is not there, as it is written: then Asterisk loads nothing of it at all.
    pub(super) not_there: Vec<String>,
}

/// What the file `name` in Asterisk's configuration directory includes. Main can have a path of its choice included:
/// nothing is read but what lies in that directory or in `roots`.
pub(super) fn of(config: &Path, name: &str, roots: &[PathBuf], budget: &mut Budget) -> Included {
    let within: Vec<PathBuf> = roots.iter().cloned().chain(config.canonicalize()).collect();
    let found = Included { is_whole: true, ..Included::default() };
    let mut walk = Walk { config, within, budget, seen: BTreeSet::new(), found };
    walk.visit(&config.join(name), 0);
    let is_spent = walk.budget.is_spent();
    let mut found = walk.found;
    found.is_whole &= !is_spent;
    found
}

struct Walk<'a> {
    config: &'a Path,
    within: Vec<PathBuf>,
    budget: &'a mut Budget,
    seen: BTreeSet<PathBuf>,
    found: Included,
}

impl Walk<'_> {
    fn visit(&mut self, file: &Path, depth: usize) {
        let Ok(real) = file.canonicalize() else {
            self.found.is_whole &= depth > 0;
            return;
        };
        if real.is_dir() {
            // As `*` matches one, too.
            return;
        }
        let is_readable = self.within.iter().any(|root| real.starts_with(root)) && real.is_file();
        if !is_readable || depth > MAX_DEPTH || self.seen.len() >= MAX_FILES {
            self.found.is_whole = false;
            return;
        }
        if !self.seen.insert(real.clone()) {
            return;
        }
        self.found.files.push(real.clone());
        let content = self.budget.read(&real);
        for line in lines(&content) {
            match directive(&line) {
                Some((Directive::Exec, _)) => self.found.is_whole = false,
                Some((directive, path)) => self.include(directive, path, depth),
                None => {}
            }
        }
    }

    fn include(&mut self, directive: Directive, path: &[u8], depth: usize) {
        if !self.budget.take_name() {
            return;
        }
        let Some(files) = expand(&self.config.join(OsStr::from_bytes(path)), self.budget) else {
            self.found.is_whole = false;
            return;
        };
        if depth == 0 && directive == Directive::Include && !files.iter().any(|file| file.exists()) {
            self.found.not_there.push(escape_for_people(path));
        }
        for file in files {
            self.visit(&file, depth + 1);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Include,
    /// What is not there does not matter.
    TryInclude,
    Exec,
}

/// What a line includes: `#include "x.conf"`, `#tryinclude <x.conf>`, `#include x/*`.
fn directive(line: &[u8]) -> Option<(Directive, &[u8])> {
    let line = line.strip_prefix(b"#")?;
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    let (word, rest) = line.split_at(end);
    let known =
        [("include", Directive::Include), ("tryinclude", Directive::TryInclude), ("exec", Directive::Exec)];
    let (_, directive) = known.into_iter().find(|(known, _)| word.eq_ignore_ascii_case(known.as_bytes()))?;
    let rest = rest.trim_ascii();
    let quoted = |open: &[u8], close: &[u8]| rest.strip_prefix(open)?.strip_suffix(close);
    let path = quoted(b"\"", b"\"").or_else(|| quoted(b"<", b">")).unwrap_or(rest);
    (!path.is_empty()).then_some((directive, path))
}

/// The paths that a pattern of glob(3) matches, sorted; nothing for one that is not understood.
fn expand(pattern: &Path, budget: &mut Budget) -> Option<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        let is_pattern = matches!(component, Component::Normal(_))
            && name.as_bytes().iter().any(|byte| b"*?[{".contains(byte));
        if !is_pattern {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let matcher = matcher(name)?;
        found = found.iter().flat_map(|dir| matching(dir, &matcher, budget)).collect();
    }
    Some(found)
}

fn matcher(name: &OsStr) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(name.to_str()?).backslash_escape(true).build();
    glob.ok().map(|glob| glob.compile_matcher())
}

fn matching(dir: &Path, matcher: &GlobMatcher, budget: &mut Budget) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().take_while(|_| budget.take_name());
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    // A dot at the beginning is matched by a dot alone.
    let is_hidden =
        |name: &OsStr| name.as_bytes().starts_with(b".") && !matcher.glob().glob().starts_with('.');
    let mut paths: Vec<PathBuf> =
        names.filter(|name| !is_hidden(name) && matcher.is_match(name)).map(|name| dir.join(name)).collect();
    paths.sort();
    paths
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What an `extensions.conf` includes; `ROOT` is where it and the others are.
    fn included(extensions: &str) -> (Vec<String>, bool, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (name, content) in [
            ("etc/extensions.conf", extensions),
            (
                "etc/extra.d/10-a.conf",
                "#include extra.d/sub/x.conf\n#include extensions.conf\n#include no.conf\n",
            ),
            ("etc/extra.d/20-b.conf", "[b]\n"),
            ("etc/extra.d/README", "[readme]\n"),
            ("etc/extra.d/.hidden.conf", ""),
            ("etc/extra.d/sub/x.conf", ""),
            ("elsewhere/y.conf", ""),
            ("root/z.conf", ""),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.replace("ROOT", root.to_str().unwrap())).unwrap();
        }
        let included = of(&root.join("etc"), "extensions.conf", &[root.join("root")], &mut Budget::default());
        let name = |file: &PathBuf| file.strip_prefix(&root).unwrap().display().to_string();
        (included.files.iter().skip(1).map(name).collect(), included.is_whole, included.not_there)
    }

    #[test]
    fn includes_are_followed_as_asterisk_follows_them() {
        let all = [
            "etc/extra.d/10-a.conf",
            "etc/extra.d/sub/x.conf",
            "etc/extra.d/20-b.conf",
            "etc/extra.d/README",
        ];
        for (extensions, expected, is_whole) in [
            ("[main]\n", &all[..0], true),
            ("#include extra.d/*\n", &all, true),
            ("#include extra.d/*.conf\n", &all[..3], true),
            (" #TryInclude \"extra.d/[12]*.{conf,x}\" ; comment\n", &all[..3], true),
            ("#include <ROOT/etc/extra.d/20-b.conf>\n", &all[2..3], true),
            (";#include extra.d/*\n;--\n#include extra.d/*\n--;\n", &all[..0], true),
            ("#include\n#tryinclude nowhere/*\n", &all[..0], true),
            ("#exec extra.d/20-b.conf\n", &all[..0], false),
            // Not below what the node lets Main have a part in.
            ("#include ROOT/elsewhere/y.conf\n", &all[..0], false),
            ("#include ../elsewhere/*\n", &all[..0], false),
            ("#include ../root/*\n", &["root/z.conf"][..], true),
            ("#include e*/sub/x.conf\n", &all[1..2], true),
        ] {
            let found = included(extensions);
            assert_eq!(
                found,
                (expected.iter().map(|&name| name.to_owned()).collect(), is_whole, Vec::new()),
                "{extensions}"
            );
        }
    }

    /// Asterisk loads nothing at all then. Of an included file it loads what comes before.
    #[test]
    fn what_the_file_itself_includes_must_be_there() {
        let extensions =
            "#include extra.d/*\n#include no.d/*\n#tryinclude maybe.conf\n#include \"no.conf\"\n";
        assert_eq!(included(extensions).2, ["no.d/*", "no.conf"]);
    }

    /// However often a file includes what many names match, root comes to an end with it.
    #[test]
    fn what_is_looked_at_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::write(root.join("extensions.conf"), "#include *x*\n".repeat(1000)).unwrap();
        for number in 0..100 {
            fs::write(root.join(format!("{number}.conf")), "[x]\n").unwrap();
        }
        let look = |budget: &mut Budget| of(&root, "extensions.conf", &[], budget).is_whole;
        assert!(look(&mut Budget::default()));
        assert!(!look(&mut Budget::of(1 << 20, 50_000)));
        assert!(!look(&mut Budget::of(10_000, 1_000_000)));
    }
}
