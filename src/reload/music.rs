//! Whether the files of music on hold show in Asterisk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::asterisk::{moh_directories, moh_entry, moh_files, setting};
use super::contexts::lines;
use super::verify::{Ask, Shown, listed, read};
use crate::model::escape::escape_for_people;

/// Deepest directory of music that is looked at; people have one level.
const MAX_DEPTH: usize = 32;

/// Looks in `moh show files` for the files of these directories that lie where a loaded class plays from: what is there
/// must show, whoever put it there, and what is not there must not.
pub(super) fn verify(roots: &[PathBuf], ask: &mut Ask<'_>) -> Result<Shown, String> {
    let classes = ask("moh show classes", |line| line)?.stdout;
    let files = ask("moh show files", |line| line)?.stdout;
    // An Asterisk that does not answer this has no relative directories that can be found.
    let settings = ask("core show settings", |line| line).map(|answer| answer.stdout).unwrap_or_default();
    let data = setting(&settings, "Data directory").unwrap_or_default();
    let config = setting(&settings, "Configuration directory");

    // One directory has many names: /var/lib/xivo/moh is a link to /var/lib/asterisk/moh.
    let mut real = RealPaths::default();
    let played: BTreeSet<PathBuf> = moh_directories(&classes)
        .into_iter()
        .filter_map(|directory| real.of(&data.join(os(directory))))
        .collect();
    let mut shown: BTreeMap<PathBuf, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for file in moh_files(&files) {
        if let Some(slash) = file.iter().rposition(|&byte| byte == b'/')
            && let Some(directory) = real.of(Path::new(os(&file[..slash])))
        {
            shown.entry(directory).or_default().insert(file[slash + 1..].to_vec());
        }
    }

    let mut findings = Findings::default();
    for directory in directories(roots) {
        let Some(real) = real.of(&directory) else { continue };
        match (played.contains(&real), shown.get(&real)) {
            (true, entries) => findings.look(&Music::of(&directory), &directory, entries),
            (false, Some(_)) => {}
            (false, None) if Music::of(&directory).entries.is_empty() => {}
            (false, None) => findings.unplayed.push(directory),
        }
    }
    Ok(findings.verdict(config.as_deref(), &data, &mut real))
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
    fn of(directory: &Path) -> Music {
        let mut music = Music::default();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            match path.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    let Some(shown) = moh_entry(name.as_bytes()) else { continue };
                    music.entries.insert(shown.to_vec(), name.as_bytes().to_vec());
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

/// The first bytes of a file.
fn head(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut header = Vec::new();
    fs::File::open(path).ok()?.take(64).read_to_end(&mut header).ok()?;
    Some(header)
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

    fn verdict(mut self, config: Option<&Path>, data: &Path, real: &mut RealPaths) -> Shown {
        if let Some(differences) = self.differences() {
            return differences;
        }
        let classes = config.map(|config| config.join("musiconhold.conf"));
        let named = classes.as_deref().map(|file| class_directories(file, data, real)).unwrap_or_default();
        let is_named = |directory: &mut PathBuf| real.of(directory).is_some_and(|real| named.contains(&real));
        let unmade: Vec<PathBuf> = self.unplayed.extract_if(.., is_named).collect();
        if let (Some(file), false) = (classes, unmade.is_empty()) {
            return Shown::Missing(format!(
                "Asterisk has no class of music on hold that plays from {}: the directory was empty or missing before, \
                 and the class is not made until {} is newer; `touch` that file on the node",
                listed(unmade.iter().map(|directory| for_people(directory))),
                for_people(&file),
            ));
        }
        let unplayed: Vec<String> = self.unplayed.iter().map(|directory| for_people(directory)).collect();
        let warnings = [
            (unplayed, "no class of music on hold that Asterisk has loaded plays from "),
            (self.unplayable, "music on hold that cannot be played: "),
        ];
        let warnings = warnings.into_iter().filter(|(names, _)| !names.is_empty());
        let warnings: Vec<String> =
            warnings.map(|(names, what)| format!("{what}{}", listed(names.into_iter()))).collect();
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

/// The directories that a `musiconhold.conf` names, as far as it says so itself.
fn class_directories(file: &Path, data: &Path, real: &mut RealPaths) -> BTreeSet<PathBuf> {
    let Ok(file) = file.canonicalize() else { return BTreeSet::new() };
    let directory = |line: Vec<u8>| {
        let value = line.strip_prefix(b"directory")?.trim_ascii().strip_prefix(b"=")?;
        let value = value.strip_prefix(b">").unwrap_or(value).trim_ascii();
        real.of(&data.join(os(value)))
    };
    lines(&read(&file)).filter_map(directory).collect()
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
}
