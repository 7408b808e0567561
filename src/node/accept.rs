//! What a node allows Main to do: `/etc/xds-sync/node.toml`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use crate::disk::resolved;
use crate::durable;
use crate::model::reserved::reserved_name;
use crate::node::epoch::Limit;
use crate::node::machine::Machine;
use crate::toml::{self, Converted, Mistakes, Notes, Origin, Raw, Reader};

/// What is said where a node accepts no changes.
pub(crate) const READ_ONLY: &str = "the node accepts no changes (see `read_only` in node.toml there)";

/// A node's `node.toml`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The file it was read from; for messages.
    pub file: PathBuf,
    /// Main may name these directories, and any below.
    pub roots: Vec<PathBuf>,
    /// Main may read, and change nothing.
    pub read_only: bool,
    /// The commands of reloads, by name: programs with their arguments, run without a shell.
    pub reload: BTreeMap<String, Vec<String>>,
    /// Where the node remembers its Main.
    pub state_dir: PathBuf,
    /// The highest epoch that a new Main may have. It is not in the file, which knows no time.
    pub max_epoch: Limit,
    /// This host; `None`: it does not tell which machine it is. It is not in the file either.
    pub machine: Option<Machine>,
}

/// Defaults, for a node without a file: XiVO's four directories, some of which are symlinks to elsewhere.
const ROOTS: [&str; 4] = [
    "/etc/asterisk/extensions_extra.d",
    "/var/lib/xivo/moh",
    "/var/lib/xivo/sounds",
    "/var/lib/xivo/sounds/recordings",
];
const RELOADS: [(&str, &str); 2] =
    // In these words Asterisk admits that it has not loaded something. "dialplan reload" is answered by "Dialplan reloaded."
    // and "moh reload" by nothing, whatever comes of them.
    [("dialplan", "module reload pbx_config.so"), ("moh", "module reload res_musiconhold.so")];
/// The tables of a node that follows a store.
const FOLLOWING: [&str; 2] = ["store", "follow"];
const STATE_DIR: &str = "/var/lib/xds-sync";

impl Accept {
    /// Reads `file`; without one, the defaults hold. A file with mistakes is an error ([`Mistakes`]):
    /// a typo must not open what it was to close.
    pub fn read(file: &Path) -> anyhow::Result<Accept> {
        let content = durable::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        match content {
            Some(content) => Ok(Accept::parse(file, &content)?),
            None => Ok(Accept::default_of(file)),
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
            max_epoch: Limit::NONE,
            machine: None,
        }
    }

    fn parse(file: &Path, content: &[u8]) -> Result<Accept, Mistakes> {
        let mut notes = Notes::default();
        let fields = toml::parse(file, content, &mut notes.mistakes);
        let reader = Reader::new(String::new(), fields, Origin::File(file.to_owned(), 1), &mut notes);
        let accept = written(reader, Accept::default_of(file));
        match accept {
            Some(accept) if notes.mistakes.0.is_empty() => Ok(accept),
            _ => {
                notes.mistakes.sort(file);
                Err(notes.mistakes)
            }
        }
    }

    /// Whether Main may name this directory; else why not. What is opened later may lie elsewhere, and is held against
    /// [`place`](Accept::place) again.
    pub fn root(&self, root: &Path) -> Result<(), String> {
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !root.is_absolute() || !root.components().all(plain) {
            return Err(self.no(root, "it is no absolute path without '..'"));
        }
        if !self.roots.iter().any(|accepted| root.starts_with(accepted)) {
            return Err(self.no(root, "it is in none of its roots, to which it can be added"));
        }
        if let Some(name) = reserved_name(root) {
            return Err(self.no(root, &format!("it lies in {}, which stays the node's own", name.display())));
        }
        self.place(root, &resolved(root))
    }

    /// Whether a directory that Main may name may be at `real`, where it was found; else why not.
    ///
    /// XiVO's own roots lead into each other over symlinks; one to elsewhere is a way out.
    pub(crate) fn place(&self, root: &Path, real: &Path) -> Result<(), String> {
        let is_in = |accepted: &PathBuf| real.starts_with(accepted) || real.starts_with(resolved(accepted));
        if self.roots.iter().any(is_in) {
            return Ok(());
        }
        Err(self.no(root, "a symlink leads it out of the roots"))
    }

    fn no(&self, root: &Path, why: &str) -> String {
        use std::os::unix::ffi::OsStrExt as _;
        let root = crate::model::escape::escape_for_people(root.as_os_str().as_bytes());
        format!("the node does not accept {root}: {why} (see `roots` in {} there)", self.file.display())
    }
}

/// What a file says, over the defaults.
fn written(mut reader: Reader<'_>, default: Accept) -> Option<Accept> {
    let roots = if reader.has("roots") { None } else { Some(default.roots) };
    let written_roots = reader.list("roots", root);
    let read_only = reader.get("read_only", Raw::Bool(default.read_only), toml::boolean);
    let state_dir = reader.get("state_dir", Raw::Text(STATE_DIR.to_owned()), path);
    let mut reload = default.reload;
    if let Some(table) = reader.table("reload") {
        reload.extend(table.names(command).into_iter().map(|(name, command, _)| (name, command)));
    }
    // What this node fetches by itself is no business of a Main that comes over ssh.
    FOLLOWING.into_iter().for_each(|key| reader.leave(key));
    reader.finish();
    Some(Accept {
        file: default.file,
        roots: roots.or(written_roots)?,
        read_only: read_only?,
        reload,
        state_dir: state_dir?,
        max_epoch: default.max_epoch,
        machine: default.machine,
    })
}

fn path(raw: &Raw) -> Converted<PathBuf> {
    let text = toml::text(raw)?;
    toml::absolute(&text, Path::new(&text))
}

fn root(raw: &Raw) -> Converted<PathBuf> {
    match path(raw)? {
        root if root == Path::new("/") => Err("\"/\" accepts everything; name the directories".to_owned()),
        root => Ok(root),
    }
}

/// A program and its arguments.
fn command(raw: &Raw) -> Converted<Vec<String>> {
    let words: Option<Vec<String>> = match raw {
        Raw::List(words) => words.iter().map(|(word, _)| word.text()).collect(),
        _ => None,
    };
    let command = words.filter(|words| words.first().is_some_and(|program| !program.is_empty()));
    command.ok_or_else(|| "expected a list of a program and its arguments, such as [\"true\"]".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Accept, Mistakes> {
        Accept::parse(Path::new("node.toml"), text.as_bytes())
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        let accept = Accept::read(Path::new("/nowhere/node.toml")).unwrap();
        assert_eq!(Ok(&accept.roots), parse("").as_ref().map(|accept| &accept.roots));
        assert_eq!(accept.reload["moh"], ["asterisk", "-rx", "module reload res_musiconhold.so"]);
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
    fn what_is_said_of_following_is_left_to_who_follows() {
        let accept = parse(
            "roots = ['/srv/moh']\n[store]\nurl = 'file:///srv/store'\n[follow.startup]\nmode = 'sync'\n",
        );
        assert_eq!(accept.unwrap().roots, [Path::new("/srv/moh")]);
        let error = parse("[stores]\nurl = 'file:///srv/store'\n").unwrap_err().to_string();
        assert!(error.contains("unknown key stores"), "{error}");
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let error = parse(
            "root = []\nroots = ['etc', '/a/../b', '/', '/ok']\nread_only = 'no'\n\n[reload]\nmoh = 'reload'\nx = []\n",
        )
        .unwrap_err();
        let mistakes: Vec<String> = error.0.iter().map(ToString::to_string).collect();
        let lines: Vec<&str> = mistakes.iter().filter_map(|line| line.split(": ").next()).collect();
        let at = |line: u32| format!("node.toml:{line}");
        assert_eq!(lines, [at(1), at(2), at(2), at(2), at(3), at(6), at(7)]);
        assert!(mistakes[0].contains("unknown key root"), "{error}");
        assert!(parse("roots = [\n").unwrap_err().to_string().starts_with("node.toml:"));
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
            ("xivo/xds_override.d", false),
            ("xivo/.xds-sync/trash", false),
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
