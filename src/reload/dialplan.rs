//! Whether the files of a dialplan show in Asterisk.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::asterisk::{Dialplan, setting, what_matters};
use super::contexts::{Declared, declared};
use super::includes;
use super::verify::{Ask, Shown, listed, read};
use crate::model::escape::escape_for_people;

/// Looks in `dialplan show` for the contexts that the files in these directories declare, and those that they include.
///
/// That finds files and contexts which Asterisk lost, whoever put them there, not a mistake inside of one.
pub(super) fn verify(roots: &[PathBuf], ask: &mut Ask<'_>) -> Result<Shown, String> {
    let shown = Dialplan::read(&ask("dialplan show", what_matters)?.stdout);
    // An Asterisk that does not answer this has its files where nobody knows.
    let settings = ask("core show settings", |line| line).ok();
    let config = settings.and_then(|answer| setting(&answer.stdout, "Configuration directory"));

    let mut findings = Findings::default();
    for file in files(roots, config.as_deref()) {
        findings.look(&file, &shown);
    }
    Ok(findings.verdict(&shown))
}

/// Whether Asterisk reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Yes,
    No,
    /// It cannot be seen what includes the directory. XiVO's `#include` takes every name, others `*.conf`.
    Perhaps,
}

struct DialplanFile {
    path: PathBuf,
    /// As people know it.
    name: String,
    reading: Reading,
}

/// The files of the dialplan in these directories, and those that they include, in the order in which they are read.
fn files(roots: &[PathBuf], config: Option<&Path>) -> Vec<DialplanFile> {
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    let included = config.map(|config| includes::of_dialplan(config, &roots)).unwrap_or_default();
    let mut files: Vec<DialplanFile> = included
        .iter()
        .map(|path| DialplanFile { path: path.clone(), name: name(path, &roots), reading: Reading::Yes })
        .collect();
    for root in &roots {
        let is_included = included.iter().any(|path| path.starts_with(root));
        let reading = if is_included { Reading::No } else { Reading::Perhaps };
        for path in visible_files(root).into_iter().filter(|path| !included.contains(path)) {
            files.push(DialplanFile { name: name(&path, &roots), path, reading });
        }
    }
    files
}

/// The files directly in a directory that `*` matches, without symlinks.
fn visible_files(root: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().as_bytes().starts_with(b"."));
    visible.filter_map(|entry| entry.path().canonicalize().ok()).filter(|path| path.is_file()).collect()
}

fn name(path: &Path, roots: &[PathBuf]) -> String {
    let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
    escape_for_people(below.unwrap_or(path).as_os_str().as_bytes())
}

#[derive(Default)]
struct Findings {
    missing: BTreeSet<Vec<u8>>,
    /// The first file of which something is missing.
    first: Option<(String, Reading)>,
    unread: Vec<String>,
    /// Files that are no plain text, and those of which no extension shows.
    garbled: Vec<String>,
    silent: Vec<String>,
}

impl Findings {
    fn look(&mut self, file: &DialplanFile, shown: &Dialplan) {
        let content = read(&file.path);
        let Declared { contexts, has_extensions } = declared(&content);
        let lost: Vec<_> = contexts.difference(&shown.contexts).cloned().collect();
        let is_conf = file.path.extension().is_some_and(|extension| extension == "conf");
        let is_read = file.reading == Reading::Yes || (file.reading == Reading::Perhaps && is_conf);
        if !is_read {
            if !lost.is_empty() {
                self.unread.push(file.name.clone());
            }
            return;
        }
        if !lost.is_empty() {
            self.first.get_or_insert_with(|| (file.name.clone(), file.reading));
            self.missing.extend(lost);
        } else if is_garbled(&content) {
            self.garbled.push(file.name.clone());
        } else if has_extensions && shown.has_all_extensions && !shown.has_file(&file.path) {
            self.silent.push(file.name.clone());
        }
    }

    fn verdict(self, shown: &Dialplan) -> Shown {
        let Some((first, reading)) = self.first else {
            return Shown::All(self.warning());
        };
        if !shown.has_all_contexts {
            return Shown::NotYet("Asterisk did not show its whole dialplan".to_owned());
        }
        // Whatever stops Asterisk stops it for all files that follow.
        let mut detail = format!(
            "contexts are missing in Asterisk: {}; look for a mistake in {first} or a file before it, and at \
             Asterisk's log",
            listed(self.missing.iter().map(|name| escape_for_people(name))),
        );
        if reading == Reading::Perhaps {
            detail.push_str("; or does no #include of extensions.conf read it?");
        }
        Shown::Missing(detail)
    }

    fn warning(self) -> Option<String> {
        let warnings = [
            (
                self.unread,
                "Asterisk does not seem to read",
                "; `exclude` in Main's configuration leaves such names out",
            ),
            (
                self.garbled,
                "not plain text of this system (UTF-16, or CR line ends), so that Asterisk does not see all of it:",
                "",
            ),
            (
                self.silent,
                "Asterisk shows no extension of",
                "; it cannot read the file, or another one had them first",
            ),
        ];
        let told = warnings.into_iter().filter(|(names, ..)| !names.is_empty());
        let told: Vec<String> = told
            .map(|(names, what, advice)| format!("{what} {}{advice}", listed(names.into_iter())))
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// Whether there is something in a file that ends Asterisk's sight of a line, or of its end.
fn is_garbled(content: &[u8]) -> bool {
    content.contains(&0) || content.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n')
}
