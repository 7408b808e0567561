//! Whether the files of a dialplan show in Asterisk.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::contexts::{Declared, declared};
use super::includes::{self, Included};
use super::shows::{Dialplan, setting, what_matters};
use super::verify::{Ask, Budget, Shown, listed};
use crate::model::escape::escape_for_people;

/// Looks in `dialplan show` for the contexts that the files in these directories declare, and all others that Asterisk
/// reads: a mistake in one file takes those after it down.
///
/// That finds files and contexts which Asterisk lost, whoever put them there, not a mistake inside of one.
pub(super) fn verify(roots: &[PathBuf], ask: &mut Ask<'_>) -> Result<Shown, String> {
    let shown = Dialplan::read(&ask("dialplan show", what_matters)?.stdout);
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    let included = included(&roots, ask);

    let mut findings = Findings::default();
    let mut budget = Budget::default();
    for file in files(&roots, &included, &mut budget) {
        findings.look(&file, &budget.read(&file.path), &shown, &roots);
    }
    Ok(findings.verdict(&shown))
}

/// What is known of why Asterisk has loaded nothing, and what that means.
pub(super) fn why_nothing(roots: &[PathBuf], ask: &mut Ask<'_>) -> String {
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    let included = included(&roots, ask);
    let why = match (&included.files[..], &included.not_there[..]) {
        ([], _) => "is there an extensions.conf?".to_owned(),
        (_, []) => "does everything exist that extensions.conf includes?".to_owned(),
        (_, not_there) => {
            format!("extensions.conf includes {}, which matches no file", listed(not_there.iter().cloned()))
        }
    };
    format!("it goes on with the dialplan that it had, and would have none after a restart; {why}")
}

/// What Asterisk reads for its dialplan. Of an Asterisk that does not tell where its configuration is, nothing is known.
fn included(roots: &[PathBuf], ask: &mut Ask<'_>) -> Included {
    let settings = ask("core show settings", |line| line).ok();
    let config = settings.and_then(|answer| setting(&answer.stdout, "Configuration directory"));
    config
        .map(|config| includes::of(&config, "extensions.conf", roots, &mut Budget::default()))
        .unwrap_or_default()
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
    reading: Reading,
}

/// The files that Asterisk reads, in the order in which they begin, and the others in these directories.
fn files(roots: &[PathBuf], included: &Included, budget: &mut Budget) -> Vec<DialplanFile> {
    let file = |path: &PathBuf, reading| DialplanFile { path: path.clone(), reading };
    let mut files: Vec<DialplanFile> = included.files.iter().map(|path| file(path, Reading::Yes)).collect();
    let known: HashSet<&PathBuf> = included.files.iter().collect();
    for root in roots {
        let is_known = included.is_whole || included.files.iter().any(|path| path.starts_with(root));
        let reading = if is_known { Reading::No } else { Reading::Perhaps };
        let others = visible_files(root, budget).into_iter().filter(|path| !known.contains(path));
        files.extend(others.map(|path| file(&path, reading)));
    }
    files
}

/// The files directly in a directory that `*` matches, without symlinks.
fn visible_files(root: &Path, budget: &mut Budget) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten().take_while(|_| budget.take_name());
    let visible = entries.filter(|entry| !entry.file_name().as_bytes().starts_with(b"."));
    visible.filter_map(|entry| entry.path().canonicalize().ok()).filter(|path| path.is_file()).collect()
}

fn name(path: &Path, roots: &[PathBuf]) -> String {
    let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
    escape_for_people(below.unwrap_or(path).as_os_str().as_bytes())
}

/// Something of a file that does not show.
struct Lost {
    /// As people know the file.
    name: String,
    path: PathBuf,
    reading: Reading,
    contexts: BTreeSet<Vec<u8>>,
    is_below_root: bool,
}

#[derive(Default)]
struct Findings {
    lost: Vec<Lost>,
    /// Files that are no plain text, and those of which no extension shows.
    garbled: Vec<String>,
    silent: Vec<String>,
    /// Of which extensions show.
    seen: BTreeSet<PathBuf>,
}

impl Findings {
    fn look(&mut self, file: &DialplanFile, content: &[u8], shown: &Dialplan, roots: &[PathBuf]) {
        let Declared { contexts, has_extensions } = declared(content);
        let lost: BTreeSet<_> = contexts.difference(&shown.contexts).cloned().collect();
        let (name, is_seen) = (name(&file.path, roots), has_extensions && shown.has_file(&file.path));
        if is_seen {
            self.seen.insert(file.path.clone());
        }
        if !lost.is_empty() {
            let is_below_root = roots.iter().any(|root| file.path.starts_with(root));
            let (path, reading) = (file.path.clone(), file.reading);
            self.lost.push(Lost { name, path, reading, contexts: lost, is_below_root });
        } else if file.reading == Reading::Yes && is_garbled(content) {
            self.garbled.push(name);
        } else if file.reading == Reading::Yes && has_extensions && shown.has_all_extensions && !is_seen {
            self.silent.push(name);
        }
    }

    fn verdict(mut self, shown: &Dialplan) -> Shown {
        // Where it cannot be seen whether Asterisk reads a directory, what it shows of it tells.
        let seen = std::mem::take(&mut self.seen);
        let is_read = |lost: &Lost| match lost.reading {
            Reading::Yes => true,
            Reading::No => false,
            Reading::Perhaps => {
                lost.path.extension().is_some_and(|extension| extension == "conf")
                    && seen.iter().any(|seen| seen.parent() == lost.path.parent())
            }
        };
        let (missing, unread): (Vec<Lost>, Vec<Lost>) = self.lost.drain(..).partition(is_read);
        // The mistake is hardly in what was there before anything was synchronised.
        let first = missing.iter().find(|lost| lost.is_below_root).or(missing.first());
        let Some(first) = first else {
            return Shown::All(self.warning(&unread));
        };
        if !shown.has_all_contexts {
            return Shown::NotYet("Asterisk did not show its whole dialplan".to_owned());
        }
        // Whatever stops Asterisk stops it for all files that follow.
        let contexts: BTreeSet<&Vec<u8>> = missing.iter().flat_map(|lost| &lost.contexts).collect();
        Shown::Missing(format!(
            "contexts are missing in Asterisk: {}; look for a mistake in {} or a file that is read before it, and at \
             Asterisk's log",
            listed(contexts.into_iter().map(|name| escape_for_people(name))),
            first.name,
        ))
    }

    fn warning(self, unread: &[Lost]) -> Option<String> {
        let warnings = [
            (
                unread.iter().map(|lost| lost.name.clone()).collect(),
                "Asterisk shows nothing of",
                ", which its extensions.conf may not include; `exclude` in Main's configuration leaves such names out",
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
        let told = warnings.into_iter().filter(|(names, ..): &(Vec<String>, _, _)| !names.is_empty());
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
