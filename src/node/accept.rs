//! What a node lets Main do: `/etc/xds-sync/node.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use toml_edit::{Document, Item, Table, Value};

use crate::disk::resolved;
use crate::model::escape::escape_for_people;

/// A node's `node.toml`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The file it was read from; for messages.
    pub file: PathBuf,
    /// The directories that Main may name, and any below them.
    pub roots: Vec<PathBuf>,
    /// Whether Main may only look, and change nothing.
    pub read_only: bool,
    /// The commands of reloads, by name: programs with their arguments, run without a shell.
    pub reload: BTreeMap<String, Vec<String>>,
    /// Where the node records which Main it obeys.
    pub state_dir: PathBuf,
}

/// What a node without a file accepts.
const ROOTS: [&str; 3] = ["/etc/asterisk", "/var/lib/xivo", "/var/lib/asterisk"];
const RELOADS: [(&str, &str); 2] = [("dialplan", "dialplan reload"), ("moh", "moh reload")];
const STATE_DIR: &str = "/var/lib/xds-sync";

/// All mistakes in a file, one line each, which begins with file and line number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistakes(pub(crate) Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

impl Accept {
    /// Reads `file`; without one, the defaults hold. A file with mistakes is an error ([`Mistakes`]):
    /// a typo must not allow what the file was meant to forbid.
    pub fn read(file: &Path) -> anyhow::Result<Accept> {
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(Accept::parse(file, &text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Accept::default_of(file)),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    fn default_of(file: &Path) -> Accept {
        let command = |words: &str| ["asterisk", "-rx", words].map(str::to_owned).to_vec();
        Accept {
            file: file.to_owned(),
            roots: ROOTS.map(PathBuf::from).to_vec(),
            read_only: false,
            reload: RELOADS.into_iter().map(|(name, words)| (name.to_owned(), command(words))).collect(),
            state_dir: STATE_DIR.into(),
        }
    }

    fn parse(file: &Path, text: &str) -> Result<Accept, Mistakes> {
        let mut reader = Reader { file, text, mistakes: Vec::new() };
        let mut accept = Accept::default_of(file);
        match Document::parse(text) {
            Ok(document) => reader.top(document.as_table(), &mut accept),
            Err(error) => reader.mistake(error.span(), error.message()),
        }
        if reader.mistakes.is_empty() { Ok(accept) } else { Err(Mistakes(reader.mistakes)) }
    }

    /// Checks that Main may name this directory. The error says why not.
    ///
    /// Both the path as it is written and the one that the kernel resolves it to must lie in an accepted
    /// root. XiVO's own roots lead into each other over symlinks, but a symlink to elsewhere is a way out.
    pub fn root(&self, root: &Path) -> Result<(), String> {
        let is_plain =
            root.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !root.is_absolute() || !is_plain {
            return Err(self.refusal(root, "it is no absolute path without '..'"));
        }
        if !self.roots.iter().any(|accepted| root.starts_with(accepted)) {
            return Err(self.refusal(root, "it is in none of its roots"));
        }
        let real = resolved(root);
        if !self
            .roots
            .iter()
            .any(|accepted| real.starts_with(accepted) || real.starts_with(resolved(accepted)))
        {
            return Err(self.refusal(root, "a symlink leads it out of the roots"));
        }
        Ok(())
    }

    fn refusal(&self, root: &Path, why: &str) -> String {
        let root = escape_for_people(root.as_os_str().as_bytes());
        format!("the node does not accept {root}: {why} (see `roots` in {} there)", self.file.display())
    }
}

/// Reads a file and collects its mistakes.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<String>,
}

type Span = Option<std::ops::Range<usize>>;

impl Reader<'_> {
    fn mistake(&mut self, span: Span, what: &str) {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        self.mistakes.push(format!("{}:{line}: {what}", self.file.display()));
    }

    fn top(&mut self, table: &Table, accept: &mut Accept) {
        for (key, item) in table {
            match key {
                "roots" => accept.roots = self.roots(item),
                "read_only" => match item.as_bool() {
                    Some(value) => accept.read_only = value,
                    None => self.mistake(item.span(), "`read_only` is true or false"),
                },
                "state_dir" => match item.as_str().map(Path::new).filter(|path| path.is_absolute()) {
                    Some(path) => accept.state_dir = path.to_owned(),
                    None => self.mistake(item.span(), "`state_dir` is an absolute path"),
                },
                "reload" => self.reloads(item, &mut accept.reload),
                _ => {
                    let span = table.key(key).and_then(toml_edit::Key::span);
                    self.mistake(
                        span,
                        &format!("unknown key `{key}`; known: roots, read_only, reload, state_dir"),
                    );
                }
            }
        }
    }

    fn roots(&mut self, item: &Item) -> Vec<PathBuf> {
        let Some(array) = item.as_array() else {
            self.mistake(item.span(), "`roots` is a list of absolute paths");
            return Vec::new();
        };
        let mut roots = Vec::new();
        for value in array {
            let path = value.as_str().map(Path::new);
            match path.filter(|path| {
                path.is_absolute() && path.components().all(|part| part != Component::ParentDir)
            }) {
                Some(path) if path == Path::new("/") => {
                    self.mistake(value.span(), "`/` accepts everything: name the directories");
                }
                Some(path) => roots.push(path.to_owned()),
                None => self.mistake(value.span(), "a root is an absolute path without `..`"),
            }
        }
        roots
    }

    fn reloads(&mut self, item: &Item, reloads: &mut BTreeMap<String, Vec<String>>) {
        let Some(table) = item.as_table_like() else {
            self.mistake(item.span(), "`reload` is a table of names and commands");
            return;
        };
        for (name, command) in table.iter() {
            let words =
                command.as_array().map(|array| array.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
            match words.flatten().filter(|words| words.first().is_some_and(|program| !program.is_empty())) {
                Some(words) => {
                    reloads.insert(name.to_owned(), words.into_iter().map(str::to_owned).collect());
                }
                None => {
                    let what = format!("the reload `{name}` is a list of a program and its arguments");
                    self.mistake(command.span(), &what);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Accept, Mistakes> {
        Accept::parse(Path::new("node.toml"), text)
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        let accept = Accept::read(Path::new("/nowhere/node.toml")).unwrap();
        assert_eq!(Ok(&accept.roots), parse("").as_ref().map(|accept| &accept.roots));
        assert_eq!(accept.reload["moh"], ["asterisk", "-rx", "moh reload"]);
        assert!(!accept.read_only);
    }

    #[test]
    fn what_is_written_holds() {
        let accept = parse(
            "roots = ['/srv/moh']\nread_only = true\nstate_dir = '/srv/state'\n\
             [reload]\ndialplan = ['true']\nqueues = ['asterisk', '-rx', 'queue reload all']\n",
        )
        .unwrap();
        assert_eq!(accept.roots, [Path::new("/srv/moh")]);
        assert!(accept.read_only);
        assert_eq!(accept.state_dir, Path::new("/srv/state"));
        assert_eq!(accept.reload.keys().collect::<Vec<_>>(), ["dialplan", "moh", "queues"]);
        assert_eq!(accept.reload["dialplan"], ["true"]);
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let error = parse(
            "root = []\nroots = ['etc', '/a/../b', '/', '/ok']\nread_only = 'no'\n\n[reload]\nmoh = 'reload'\nx = []\n",
        )
        .unwrap_err();
        let lines: Vec<&str> = error.0.iter().filter_map(|line| line.split(": ").next()).collect();
        let at = |line: u32| format!("node.toml:{line}");
        assert_eq!(lines, [at(1), at(2), at(2), at(2), at(3), at(6), at(7)]);
        assert!(error.0[0].contains("unknown key `root`"), "{error}");
        assert!(parse("roots = [\n").unwrap_err().0[0].starts_with("node.toml:"));
    }

    #[test]
    fn roots_are_read_as_written_and_as_the_kernel_reads_them() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for made in ["xivo", "asterisk/moh", "etc", "data/real"] {
            std::fs::create_dir_all(base.join(made)).unwrap();
        }
        // XiVO's own, one that leads out, and an accepted root that is a symlink itself.
        symlink(base.join("asterisk/moh"), base.join("xivo/moh")).unwrap();
        symlink(base.join("etc"), base.join("xivo/out")).unwrap();
        symlink(base.join("data/real"), base.join("srv")).unwrap();
        let accept = Accept {
            roots: ["xivo", "asterisk", "srv"].map(|root| base.join(root)).to_vec(),
            ..parse("").unwrap()
        };
        for (root, accepted) in [
            ("xivo", true),
            ("xivo/moh", true),
            ("xivo/moh/not/yet", true),
            ("srv/sounds", true),
            ("xivo/out", false),
            ("xivo/out/asterisk", false),
            ("xivo/../etc", false),
            ("xivo2", false),
            ("etc", false),
            ("data/real", false),
        ] {
            let checked = accept.root(&base.join(root));
            assert_eq!(checked.is_ok(), accepted, "{root}: {checked:?}");
            assert!(checked.err().is_none_or(|why| why.contains("node.toml")));
        }
        for root in ["", "xivo", "/", "/etc/shadow"] {
            assert!(accept.root(Path::new(root)).is_err(), "{root}");
        }
    }
}
