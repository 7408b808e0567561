//! Whether the files of music on hold show in Asterisk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::contexts::lines;
use super::includes;
use super::shows::{file_extensions, moh_classes, moh_entry, moh_files, setting};
use super::verify::{Ask, Budget, Shown, head, listed};
use crate::model::escape::escape_for_people;

/// Deepest directory of music that is looked at; people have one level.
const MAX_DEPTH: usize = 32;

/// Looks in `moh show files` for the files of these directories that lie where a loaded class plays from: what is there
/// must show, whoever put it there, and what is not there must not.
pub(super) fn verify(roots: &[PathBuf], ask: &mut Ask<'_>) -> Result<Shown, String> {
    let classes = ask("moh show classes", |line| line)?.stdout;
    let files = ask("moh show files", |line| line)?.stdout;
    // An Asterisk that does not answer the others has no relative directories that can be found, and plays anything.
    let settings = ask("core show settings", |line| line).map(|answer| answer.stdout).unwrap_or_default();
    let formats = ask("core show file formats", |line| line).map(|answer| answer.stdout).unwrap_or_default();
    let data = setting(&settings, "Data directory").unwrap_or_default();
    let extensions = file_extensions(&formats);

    // One directory has many names: /var/lib/xivo/moh is a link to /var/lib/asterisk/moh.
    let mut real = RealPaths::default();
    let mut loaded: BTreeMap<PathBuf, bool> = BTreeMap::new();
    for class in moh_classes(&classes) {
        if let Some(directory) = real.of(&data.join(os(class.directory))) {
            *loaded.entry(directory).or_default() |= class.is_files;
        }
    }
    let mut shown: BTreeMap<PathBuf, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for file in moh_files(&files) {
        if let Some(slash) = file.iter().rposition(|&byte| byte == b'/')
            && let Some(directory) = real.of_any(Path::new(os(&file[..slash])))
        {
            shown.entry(directory).or_default().insert(file[slash + 1..].to_vec());
        }
    }

    let mut findings = Findings::default();
    for directory in directories(roots) {
        let Some(real) = real.of(&directory) else { continue };
        match (loaded.get(&real), shown.get(&real)) {
            (Some(true), entries) => findings.look(&Music::of(&directory, &extensions), &directory, entries),
            // A program plays it, or a class that plays single files of it.
            (Some(false), _) | (None, Some(_)) => {}
            (None, None) if Music::of(&directory, &extensions).entries.is_empty() => {}
            (None, None) => findings.unplayed.push(directory),
        }
    }
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| real.of(root)).collect();
    let is_gone =
        |directory: &&PathBuf| roots.iter().any(|root| directory.starts_with(root)) && !directory.exists();
    findings.removed = shown.keys().filter(is_gone).cloned().collect();
    let classes = setting(&settings, "Configuration directory").map(|config| Classes { config, data });
    Ok(findings.verdict(classes, &mut real))
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// These directories and those below them, without hidden ones.
fn directories(roots: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, usize)> = roots.iter().map(|root| (root.clone(), 0)).collect();
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let is_visible = !entry.file_name().as_bytes().starts_with(b".");
            if is_visible && depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), depth + 1));
            }
        }
        found.push(directory);
    }
    found.sort();
    found
}

/// What Asterisk takes for music in a directory.
#[derive(Default)]
struct Music {
    /// Names of files, by the entry that shows.
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Links to nowhere: Asterisk does not read a directory with one.
    dead_links: Vec<String>,
    unplayable: Vec<String>,
}

impl Music {
    /// `extensions`: what a loaded module plays; where none is known, anything is.
    fn of(directory: &Path, extensions: &BTreeSet<Vec<u8>>) -> Music {
        let mut music = Music::default();
        // Of several files with one name, Asterisk takes one that it can play.
        let mut playable = BTreeSet::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            match path.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    let Some(shown) = moh_entry(name.as_bytes()) else { continue };
                    music.entries.insert(shown.to_vec(), name.as_bytes().to_vec());
                    let extension = &name.as_bytes()[shown.len() + 1..];
                    if extensions.is_empty() || extensions.contains(extension) {
                        playable.insert(shown.to_vec());
                    }
                    if let Some(why) = unplayable(&path, metadata.len()) {
                        music.unplayable.push(format!("{} ({why})", for_people(&path)));
                    }
                }
                Err(_) if entry.file_type().is_ok_and(|kind| kind.is_symlink()) => {
                    music.dead_links.push(for_people(&path));
                }
                _ => {}
            }
        }
        let unknown = music.entries.iter().filter(|(entry, _)| !playable.contains(*entry));
        let unknown = unknown.map(|(_, name)| {
            format!("{} (no module is loaded that plays such a file)", for_people(&directory.join(os(name))))
        });
        music.unplayable.extend(unknown);
        music
    }
}

/// Why Asterisk cannot play a file that it shows, as far as its first bytes say: the header of a WAV file.
fn unplayable(path: &Path, size: u64) -> Option<&'static str> {
    if size == 0 {
        return Some("empty");
    }
    let rate = match path.extension()?.as_bytes() {
        b"wav" => 8000,
        b"wav16" => 16000,
        _ => return None,
    };
    let header = head(path)?;
    let format = header.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVEfmt ")?.get(4..)?;
    let number = |at: usize| Some(u16::from_le_bytes(format.get(at..at + 2)?.try_into().ok()?));
    let found = u32::from(number(4)?) | u32::from(number(6)?) << 16;
    match (number(2)?, found == rate) {
        (1, true) => None,
        (1, false) if rate == 8000 => Some("not 8 kHz"),
        (1, false) => Some("not 16 kHz"),
        _ => Some("not mono"),
    }
}

fn for_people(path: &Path) -> String {
    escape_for_people(path.as_os_str().as_bytes())
}

#[derive(Default)]
struct Findings {
    missing: Vec<String>,
    gone: Vec<String>,
    dead_links: Vec<String>,
    unplayable: Vec<String>,
    unplayed: Vec<PathBuf>,
    /// Directories that a class has loaded and that are not there any more.
    removed: Vec<PathBuf>,
}

impl Findings {
    /// Looks at a directory that a loaded class plays from.
    fn look(&mut self, music: &Music, directory: &Path, shown: Option<&BTreeSet<Vec<u8>>>) {
        let none = BTreeSet::new();
        let shown = shown.unwrap_or(&none);
        let at = |name: &[u8]| for_people(&directory.join(os(name)));
        let missing = music.entries.iter().filter(|(entry, _)| !shown.contains(*entry));
        let missing: Vec<String> = missing.map(|(_, name)| at(name)).collect();
        let gone = shown.iter().filter(|entry| !music.entries.contains_key(*entry));
        let gone: Vec<String> = gone.map(|entry| at(entry)).collect();
        if !missing.is_empty() || !gone.is_empty() {
            self.dead_links.extend_from_slice(&music.dead_links);
        }
        self.missing.extend(missing);
        self.gone.extend(gone);
        self.unplayable.extend_from_slice(&music.unplayable);
    }

    fn verdict(mut self, classes: Option<Classes>, real: &mut RealPaths) -> Shown {
        if let Some(differences) = self.differences() {
            return differences;
        }
        if !self.removed.is_empty() {
            let removed = listed(self.removed.iter().map(|directory| for_people(directory)));
            let how = "as long as its directory is missing, Asterisk keeps what a class had; take the class out of \
                       musiconhold.conf, or `touch` that file, on the node";
            return Shown::Missing(format!(
                "music on hold of {removed}, which does not exist any more, still shows in Asterisk; {how}"
            ));
        }
        let named = classes.as_ref().map(|classes| classes.directories(real)).unwrap_or_default();
        let is_named = |directory: &mut PathBuf| real.of(directory).is_some_and(|real| named.contains(&real));
        let unmade: Vec<PathBuf> = self.unplayed.extract_if(.., is_named).collect();
        if let (Some(classes), false) = (classes, unmade.is_empty()) {
            return Shown::Missing(format!(
                "Asterisk has no class of music on hold that plays from {}: the directory was empty or missing before, \
                 and the class is not made until {} is newer; `touch` that file on the node",
                listed(unmade.iter().map(|directory| for_people(directory))),
                for_people(&classes.config.join(CLASSES)),
            ));
        }
        let unplayed: Vec<String> = self.unplayed.iter().map(|directory| for_people(directory)).collect();
        let warnings = [
            (
                unplayed,
                "no class of music on hold that Asterisk has loaded plays from ",
                "; if musiconhold.conf has one, `touch` that file on the node, and give `xds-sync sync --reload`",
            ),
            (self.unplayable, "music on hold that cannot be played: ", ""),
        ];
        let warnings = warnings.into_iter().filter(|(names, ..)| !names.is_empty());
        let warnings: Vec<String> = warnings
            .map(|(names, what, advice)| format!("{what}{}{advice}", listed(names.into_iter())))
            .collect();
        Shown::All((!warnings.is_empty()).then(|| warnings.join("; ")))
    }

    /// What shows and is not there, or is there and does not show.
    fn differences(&mut self) -> Option<Shown> {
        let lists = [
            (&mut self.missing, "music on hold is missing in Asterisk: "),
            (&mut self.gone, "music on hold that is gone still shows in Asterisk: "),
        ];
        let lists = lists.into_iter().filter(|(names, _)| !names.is_empty());
        let lists: Vec<String> =
            lists.map(|(names, what)| format!("{what}{}", listed(names.drain(..)))).collect();
        if lists.is_empty() {
            return None;
        }
        let lists = lists.join("; ");
        if self.dead_links.is_empty() {
            return Some(Shown::NotYet(format!(
                "{lists}; another reload was in the way, or Asterisk's user cannot read the directory: look at \
                 Asterisk's log"
            )));
        }
        let links = listed(self.dead_links.drain(..));
        Some(Shown::Missing(format!(
            "{lists}; Asterisk does not read a directory with a link to nowhere: {links}"
        )))
    }
}

/// Where classes of music on hold are configured, below Asterisk's configuration directory.
const CLASSES: &str = "musiconhold.conf";

/// What Asterisk is configured to play.
struct Classes {
    config: PathBuf,
    /// Where directories begin that are named relative.
    data: PathBuf,
}

impl Classes {
    /// The directories of classes, as far as files tell.
    fn directories(&self, real: &mut RealPaths) -> BTreeSet<PathBuf> {
        let directory = |line: Vec<u8>| {
            let value = line.strip_prefix(b"directory")?.trim_ascii().strip_prefix(b"=")?;
            let value = value.strip_prefix(b">").unwrap_or(value).trim_ascii();
            real.of(&self.data.join(os(value)))
        };
        let files = includes::of(&self.config, CLASSES, &[], &mut Budget::default()).files;
        let mut budget = Budget::default();
        let lines = files.iter().flat_map(|file| lines(&budget.read(file)).collect::<Vec<_>>());
        lines.filter_map(directory).collect()
    }
}

/// Paths without symlinks, each found once.
#[derive(Default)]
struct RealPaths(BTreeMap<PathBuf, Option<PathBuf>>);

impl RealPaths {
    fn of(&mut self, path: &Path) -> Option<PathBuf> {
        if let Some(known) = self.0.get(path) {
            return known.clone();
        }
        let real = path.canonicalize().ok().filter(|_| path.is_absolute());
        self.0.insert(path.to_owned(), real.clone());
        real
    }

    /// Of a path that need not be there any more.
    fn of_any(&mut self, path: &Path) -> Option<PathBuf> {
        let mut missing = Vec::new();
        for above in path.ancestors() {
            if let Some(mut real) = self.of(above) {
                real.extend(missing.into_iter().rev());
                return Some(real);
            }
            missing.push(above.file_name()?);
        }
        None
    }
}
