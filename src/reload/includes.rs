//! Which files Asterisk reads for its dialplan.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::contexts::lines;
use super::verify::read;

/// Most files that are looked at.
const MAX_FILES: usize = 10_000;
/// Asterisk follows includes ten deep (`MAX_INCLUDE_LEVEL`).
const MAX_DEPTH: usize = 10;

/// The files in `roots` that `extensions.conf` in Asterisk's configuration directory includes, and those that they
/// include themselves, in the order in which Asterisk reads them, without symlinks. What `#exec` includes is not known.
pub(super) fn of_dialplan(config: &Path, roots: &[PathBuf]) -> Vec<PathBuf> {
    // Main can have a path of its choice included. Nothing is read for it from elsewhere.
    let within: Vec<PathBuf> = roots.iter().cloned().chain(config.canonicalize()).collect();
    let mut walk = Walk { config, roots, within, seen: BTreeSet::new(), files: Vec::new() };
    walk.visit(&config.join("extensions.conf"), false, 0);
    walk.files
}

struct Walk<'a> {
    config: &'a Path,
    roots: &'a [PathBuf],
    within: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, file: &Path, is_below_root: bool, depth: usize) {
        let Ok(real) = file.canonicalize() else { return };
        let is_in = |roots: &[PathBuf]| roots.iter().any(|root| real.starts_with(root));
        if !is_in(&self.within)
            || !real.is_file()
            || depth > MAX_DEPTH
            || self.seen.len() >= MAX_FILES
            || !self.seen.insert(real.clone())
        {
            return;
        }
        let is_below_root = is_below_root || is_in(self.roots);
        if is_below_root {
            self.files.push(real.clone());
        }
        for line in lines(&read(&real)) {
            if let Some(included) = included(&line) {
                for file in expand(&self.config.join(OsStr::from_bytes(included))) {
                    self.visit(&file, is_below_root, depth + 1);
                }
            }
        }
    }
}

/// What a line includes: `#include "x.conf"`, `#tryinclude <x.conf>`, `#include x/*`.
fn included(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_prefix(b"#")?;
    let end = line.iter().position(u8::is_ascii_whitespace)?;
    let (word, rest) = line.split_at(end);
    if ![&b"include"[..], b"tryinclude"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
        return None;
    }
    let rest = rest.trim_ascii();
    let quoted = |open: &[u8], close: &[u8]| rest.strip_prefix(open)?.strip_suffix(close);
    let path = quoted(b"\"", b"\"").or_else(|| quoted(b"<", b">")).unwrap_or(rest);
    (!path.is_empty()).then_some(path)
}

/// The paths that a pattern of glob(3) matches, sorted.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str();
        let is_pattern = matches!(component, Component::Normal(_))
            && name.as_bytes().iter().any(|byte| b"*?[{".contains(byte));
        if !is_pattern {
            found.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let Some(matcher) = matcher(name) else { return Vec::new() };
        found = found.iter().flat_map(|dir| matching(dir, &matcher)).collect();
    }
    found
}

fn matcher(name: &OsStr) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(name.to_str()?).backslash_escape(true).build();
    glob.ok().map(|glob| glob.compile_matcher())
}

fn matching(dir: &Path, matcher: &GlobMatcher) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
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

    fn names(extensions: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (name, content) in [
            ("etc/extensions.conf", extensions),
            ("etc/extra.d/10-a.conf", "#include extra.d/sub/x.conf\n#include extensions.conf\n"),
            ("etc/extra.d/20-b.conf", "[b]\n"),
            ("etc/extra.d/README", "[readme]\n"),
            ("etc/extra.d/.hidden.conf", ""),
            ("etc/extra.d/sub/x.conf", ""),
            ("elsewhere/y.conf", ""),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.replace("ROOT", root.to_str().unwrap())).unwrap();
        }
        let etc = root.join("etc");
        let files = of_dialplan(&etc, std::slice::from_ref(&etc));
        files.iter().skip(1).map(|file| file.strip_prefix(&etc).unwrap().display().to_string()).collect()
    }

    #[test]
    fn includes_are_followed_as_asterisk_follows_them() {
        let all = ["extra.d/10-a.conf", "extra.d/sub/x.conf", "extra.d/20-b.conf", "extra.d/README"];
        for (extensions, expected) in [
            ("[main]\n", &all[..0]),
            ("#include extra.d/*\n", &all),
            ("#include extra.d/*.conf\n", &all[..3]),
            (" #TryInclude \"extra.d/[12]*.{conf,x}\" ; comment\n", &all[..3]),
            ("#include <ROOT/etc/extra.d/20-b.conf>\n", &all[2..3]),
            (";#include extra.d/*\n;--\n#include extra.d/*\n--;\n", &all[..0]),
            ("#exec extra.d/20-b.conf\n#include\n#include nowhere/*\n", &all[..0]),
            // Not below what the node lets Main have a part in.
            ("#include ROOT/elsewhere/y.conf\n#include ../elsewhere/*\n", &all[..0]),
            ("#include e*/sub/x.conf\n", &all[1..2]),
        ] {
            assert_eq!(names(extensions), expected, "{extensions}");
        }
    }
}
