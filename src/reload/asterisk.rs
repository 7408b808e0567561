//! What Asterisk says, and how to ask it.
//!
//! `asterisk -rx` exits 0 whatever comes of the command, as long as it reaches an Asterisk: the outcome is in
//! the words. The samples in the tests are what an Asterisk 16.28 printed; an Asterisk 22.10 prints the same.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::command::Answer;
use crate::model::escape::escape_for_people;

/// What came of a reload, as far as its own words tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing speaks against it.
    Done,
    /// Another reload is on its way, or Asterisk's own start; it is worth asking again.
    Later(String),
    /// The module that it is for is not there. During Asterisk's start, it may not be there yet.
    Unready(String),
    /// Asterisk tried, and goes on with what it had.
    LoadedNothing(String),
    /// It did not happen.
    Failed(String),
}

/// The command line that asks the same Asterisk something else; none when `command` is not of the form
/// `asterisk … -rx WORDS`.
pub(super) fn asking(command: &[String], words: &str) -> Option<Vec<String>> {
    cli_words(command)?;
    let (_, program) = command.split_last()?;
    Some(program.iter().cloned().chain([words.to_owned()]).collect())
}

/// The words for Asterisk in a command line.
fn cli_words(command: &[String]) -> Option<&str> {
    match command {
        [_, .., option, words] if option == "-rx" || option == "-x" => Some(words),
        _ => None,
    }
}

/// Reads what a command said.
pub(super) fn verdict(command: &[String], answer: &Answer) -> Verdict {
    let said = |beginning: &str| answer.lines().any(|line| line.starts_with(beginning.as_bytes()));
    for (beginning, meaning, why) in MEANINGS {
        if said(beginning) {
            return meaning(format!("{why}: {}", answer.words()));
        }
    }
    if answer.lines().any(is_during_shutdown) {
        return Verdict::Failed(format!("Asterisk is shutting down: {}", answer.words()));
    }
    let words = cli_words(command);
    let advice = words.and_then(module_of).map_or_else(
        || "is the module loaded that has it?".to_owned(),
        |module| format!("`asterisk -rx \"module load {module}\"` loads the module that has it:"),
    );
    if said("No such command '") {
        return Verdict::Unready(format!("Asterisk has no such command; {advice} {}", answer.words()));
    }
    if !answer.status.success() {
        return Verdict::Failed(format!("the command failed, {}: {}", answer.status, answer.words()));
    }
    let Some(words) = words else {
        return Verdict::Done;
    };
    let did_not = format!("Asterisk did not do it: {}", answer.words());
    if answer.lines().any(is_reload_failure) {
        return Verdict::LoadedNothing(format!("Asterisk has loaded nothing: {}", answer.words()));
    }
    if said("No such module '") || answer.lines().any(is_not_initialized) {
        let load =
            module_of(words).map(|module| format!("; `asterisk -rx \"module load {module}\"` loads it"));
        return Verdict::Unready(did_not + &load.unwrap_or_default());
    }
    let is_confirmed = confirmation(words).is_none_or(|confirmation| said(&confirmation));
    if REFUSALS.iter().any(|beginning| said(beginning)) || !is_confirmed {
        return Verdict::Failed(did_not);
    }
    Verdict::Done
}

/// A verdict, by its explanation.
type Meaning = fn(String) -> Verdict;

/// How lines begin that say all, and what they mean.
const MEANINGS: [(&str, Meaning, &str); 4] = [
    (
        "Unable to connect to remote asterisk",
        Verdict::Failed,
        "Asterisk is not running, or does not let this user in",
    ),
    ("A module reload request is already in progress", Verdict::Later, "another reload did not end in time"),
    ("Asterisk cannot reload a module yet", Verdict::Later, "Asterisk is still booting"),
    (
        "You don't have permissions to run '",
        Verdict::Failed,
        "cli_permissions.conf of this Asterisk denies it to the user of the agent",
    ),
];

/// How lines begin by which Asterisk says that it did not do what it was asked, with an exit code of 0.
const REFUSALS: [&str; 3] = ["Command '", "The module '", "Usage: "];

fn is_during_shutdown(line: &[u8]) -> bool {
    line.starts_with(b"Command '") && line.ends_with(b"' cannot be run during shutdown")
}

fn is_reload_failure(line: &[u8]) -> bool {
    line.starts_with(b"The module '") && line.ends_with(b"' reported a reload failure")
}

fn is_not_initialized(line: &[u8]) -> bool {
    const WORDS: &[u8] = b"' was not properly initialized";
    line.starts_with(b"The module '") && line.windows(WORDS.len()).any(|window| window == WORDS)
}

/// Asterisk takes words in any case and with any spaces between.
fn normal(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_ascii_lowercase).collect()
}

/// How a line begins by which Asterisk says that it has done what these words ask, if it says anything.
fn confirmation(words: &str) -> Option<String> {
    let normal = normal(words);
    match &*normal.iter().map(String::as_str).collect::<Vec<_>>() {
        ["dialplan", "reload"] => Some("Dialplan reloaded.".to_owned()),
        ["module", "reload", _] => {
            let module = words.split_whitespace().last().unwrap_or_default();
            Some(format!("Module '{module}' reloaded successfully."))
        }
        _ => None,
    }
}

/// The module that words are for, where that is known.
fn module_of(words: &str) -> Option<String> {
    match &*normal(words).iter().map(String::as_str).collect::<Vec<_>>() {
        ["dialplan", ..] => Some("pbx_config.so".to_owned()),
        ["moh", ..] => Some("res_musiconhold.so".to_owned()),
        ["module", "reload", _] => words.split_whitespace().last().map(str::to_owned),
        _ => None,
    }
}

impl Answer {
    /// Errors first.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        [&self.stderr, &self.stdout].into_iter().flat_map(|said| said.split(|&byte| byte == b'\n'))
    }

    /// What it said, for people: the first line.
    fn words(&self) -> String {
        let first = self.lines().map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
        first.map_or_else(|| "it said nothing".to_owned(), escape_for_people)
    }
}

/// What of a line of `dialplan show` matters here: of those of extensions, which can be many megabytes, the place that
/// they come from.
pub(super) fn what_matters(line: &[u8]) -> &[u8] {
    match line.windows(2).rposition(|window| window == b" [") {
        Some(place) if is_extension(line) => &line[place..],
        None if is_extension(line) => b"",
        _ => line,
    }
}

/// Whether a line of `dialplan show` is that of a priority or a hint.
fn is_extension(line: &[u8]) -> bool {
    const OTHERS: [&[u8]; 3] = [b"  Include =>", b"  Ignore pattern =>", b"  Alt. Switch =>"];
    line.starts_with(b"  ") && !OTHERS.iter().any(|other| line.starts_with(other))
}

/// What `dialplan show` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialplan {
    /// Names of contexts, whoever made them.
    pub(super) contexts: BTreeSet<Vec<u8>>,
    /// Whether these are all. Asterisk drops lines for a reader who is slow, and goes on.
    pub(super) has_all_contexts: bool,
    /// Names of the files that extensions come from, without directories.
    files: BTreeSet<Vec<u8>>,
    /// Whether no line of an extension was dropped.
    pub(super) has_all_extensions: bool,
}

impl Dialplan {
    /// Reads lines of which [`what_matters`] was kept.
    pub(super) fn read(shown: &[u8]) -> Dialplan {
        let mut dialplan = Dialplan::default();
        let mut priorities = 0;
        let mut counted = (None, None);
        for line in shown.split(|&byte| byte == b'\n') {
            if let Some(rest) = line.strip_prefix(b"[ Context '") {
                // A name may have quotes of its own.
                const END: &[u8] = b"' created by '";
                if let Some(end) = rest.windows(END.len()).rposition(|window| window == END) {
                    dialplan.contexts.insert(rest[..end].to_vec());
                }
            } else if let Some(rest) = line.strip_prefix(b"-= ") {
                counted = counts(rest);
            } else if let Some(place) = line.strip_prefix(b" [") {
                priorities += 1;
                // "extensions.conf:3]"; without a number it is the name of what made it.
                if let Some(colon) = place.iter().rposition(|&byte| byte == b':') {
                    dialplan.files.insert(place[..colon].to_vec());
                }
            }
        }
        dialplan.has_all_contexts = counted.1 == Some(dialplan.contexts.len());
        dialplan.has_all_extensions = counted.0 == Some(priorities);
        dialplan
    }

    /// Whether an extension of this file shows.
    pub(super) fn has_file(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.files.contains(name.as_bytes()))
    }
}

/// How many priorities and contexts there are: `3 extensions (3 priorities) in 2 contexts. =-`.
fn counts(sum: &[u8]) -> (Option<usize>, Option<usize>) {
    let words: Vec<&[u8]> = sum.split(|&byte| byte == b' ').collect();
    let before = |word: &[u8]| {
        let pair = words.windows(2).find(|pair| pair[1].starts_with(word))?;
        std::str::from_utf8(pair[0].strip_prefix(b"(").unwrap_or(pair[0])).ok()?.parse().ok()
    };
    (before(b"priorit"), before(b"context"))
}

/// A directory in `core show settings`.
///
/// ```text
///   Configuration directory:     /etc/asterisk
/// ```
pub(super) fn setting(shown: &[u8], name: &str) -> Option<PathBuf> {
    let value = |line: &[u8]| -> Option<PathBuf> {
        let value = line.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        Some(PathBuf::from(OsStr::from_bytes(value.trim_ascii())))
    };
    shown.split(|&byte| byte == b'\n').find_map(value)
}

/// A class of `moh show classes` with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MohClass<'a> {
    pub(super) directory: &'a [u8],
    /// Whether it is played file by file; otherwise a program plays it.
    pub(super) is_files: bool,
}

/// ```text
/// Class: default
///     Mode: files
///     Directory: /var/lib/asterisk/moh
/// ```
pub(super) fn moh_classes(shown: &[u8]) -> Vec<MohClass<'_>> {
    let mut classes = Vec::new();
    let mut is_files = false;
    for line in shown.split(|&byte| byte == b'\n') {
        if line.starts_with(b"Class: ") {
            is_files = false;
        } else if let Some(mode) = line.strip_prefix(b"\tMode: ") {
            is_files = mode == b"files";
        } else if let Some(directory) = line.strip_prefix(b"\tDirectory: ") {
            classes.push(MohClass { directory, is_files });
        }
    }
    classes
}

/// The extensions of `core show file formats`, which are those that a loaded module plays.
///
/// ```text
/// Format     Name       Extensions
/// ------     ----       ----------
/// alaw       alaw       alaw|al|alw
/// ```
pub(super) fn file_extensions(shown: &[u8]) -> BTreeSet<Vec<u8>> {
    let rows = shown.split(|&byte| byte == b'\n').skip_while(|line| !line.starts_with(b"------")).skip(1);
    let extensions = rows.filter_map(|row| {
        let mut columns = row.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match (columns.next(), columns.next(), columns.next(), columns.next()) {
            (Some(_), Some(_), Some(extensions), None) => Some(extensions),
            // "7 file formats registered."
            _ => None,
        }
    });
    extensions.flat_map(|extensions| extensions.split(|&byte| byte == b'|')).map(<[u8]>::to_vec).collect()
}

/// The paths of `moh show files`, which lack the extensions.
///
/// ```text
/// Class: default
///     File: /var/lib/asterisk/moh/jingle
/// ```
pub(super) fn moh_files(shown: &[u8]) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    let shown = shown.strip_suffix(b"\n").unwrap_or(shown);
    let mut in_files = false;
    for line in shown.split(|&byte| byte == b'\n') {
        if let Some(file) = line.strip_prefix(b"\tFile: ") {
            files.push(file.to_vec());
            in_files = true;
        } else if line.starts_with(b"Class: ") {
            in_files = false;
        } else if in_files && let Some(file) = files.last_mut() {
            // A name with a line break in it.
            file.push(b'\n');
            file.extend_from_slice(line);
        }
    }
    files
}

/// How `moh show files` shows a file of this name; none for what Asterisk does not take for music.
pub(super) fn moh_entry(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let extension = name.len() - dot - 1;
    (!name.starts_with(b".") && extension >= 2).then_some(&name[..dot])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split('|').map(str::to_owned).collect()
    }

    fn answer(code: i32, stdout: &str, stderr: &str) -> Answer {
        let status = ExitStatus::from_raw(code << 8);
        Answer { status, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn words_count_and_not_the_exit_code() {
        const DIALPLAN: &str = "asterisk|-rx|dialplan reload";
        const MOH: &str = "asterisk|-rx|moh reload";
        const OTHER: &str = "asterisk|-C|/srv/asterisk.conf|-rx|module reload app_queue.so";
        const OWN: &str = "/usr/local/bin/reload-all";
        for (command, code, stdout, stderr, expected) in [
            (DIALPLAN, 0, "Dialplan reloaded.\n", "", "done"),
            ("asterisk|-rx|Dialplan  RELOAD", 0, "Dialplan reloaded.\n", "", "done"),
            (DIALPLAN, 0, "", "", "Asterisk did not do it: it said nothing"),
            (
                DIALPLAN,
                0,
                "No such command 'dialplan reload' (type 'core show help dialplan reload' for other possible commands)\n",
                "",
                "unready: Asterisk has no such command; `asterisk -rx \"module load pbx_config.so\"` loads the module that \
                 has it: No such command 'dialplan reload' (type 'core show help dialplan reload' for other possible \
                 commands)",
            ),
            (
                "asterisk|-rx|queue relaod",
                0,
                "No such command 'queue relaod' (type …)\n",
                "",
                "unready: Asterisk has no such command; is the module loaded that has it? No such command 'queue relaod' \
                 (type …)",
            ),
            (
                DIALPLAN,
                0,
                "Command 'dialplan reload' cannot be run during shutdown\n",
                "",
                "Asterisk is shutting down: Command 'dialplan reload' cannot be run during shutdown",
            ),
            (
                MOH,
                0,
                "You don't have permissions to run 'moh reload' command\n",
                "",
                "cli_permissions.conf of this Asterisk denies it to the user of the agent: You don't have permissions to \
                 run 'moh reload' command",
            ),
            (
                OTHER,
                0,
                "Asterisk cannot reload a module yet; request queued\n",
                "",
                "later: Asterisk is still booting: Asterisk cannot reload a module yet; request queued",
            ),
            (
                OTHER,
                0,
                "The module 'app_queue.so' was not properly initialized. Before reloading the module, you must run \"module \
                 load app_queue.so\" and fix whatever is preventing the module from being initialized.\n",
                "",
                "unready: Asterisk did not do it: The module 'app_queue.so' was not properly initialized. Before reloading \
                 the module, you must run \"module load app_queue.so\" and fix whatever is preventing the module from \
                 being initialized.; `asterisk -rx \"module load app_queue.so\"` loads it",
            ),
            (
                OTHER,
                0,
                "The module 'app_queue.so' reported a reload failure\n",
                "",
                "nothing: Asterisk has loaded nothing: The module 'app_queue.so' reported a reload failure",
            ),
            (OTHER, 0, "", "", "Asterisk did not do it: it said nothing"),
            ("asterisk|-rx|module reload", 0, "", "", "done"),
            (
                DIALPLAN,
                1,
                "",
                "Unable to connect to remote asterisk (does /var/run/asterisk/asterisk.ctl exist?)\n",
                "Asterisk is not running, or does not let this user in: Unable to connect to remote asterisk \
                 (does /var/run/asterisk/asterisk.ctl exist?)",
            ),
            (MOH, 0, "", "", "done"),
            (
                "asterisk|-rx|moh reload x",
                0,
                "Usage: moh reload\n       Reloads the MusicOnHold module.\n",
                "",
                "Asterisk did not do it: Usage: moh reload",
            ),
            (OTHER, 0, "Module 'app_queue.so' reloaded successfully.\n", "", "done"),
            (
                OTHER,
                0,
                "No such module 'app_queue.so'\n",
                "",
                "unready: Asterisk did not do it: No such module 'app_queue.so'; `asterisk -rx \"module load app_queue.so\"` \
                 loads it",
            ),
            (
                OTHER,
                0,
                "The module 'format_wav.so' does not support reloads\n",
                "",
                "Asterisk did not do it: The module 'format_wav.so' does not support reloads",
            ),
            (
                OTHER,
                0,
                "A module reload request is already in progress; please be patient\n",
                "",
                "later: another reload did not end in time: \
                 A module reload request is already in progress; please be patient",
            ),
            (
                "asterisk|-rx|dialplan show nosuch",
                0,
                "There is no existence of 'nosuch' context\nCommand 'dialplan show nosuch' failed.\n",
                "",
                "Asterisk did not do it: There is no existence of 'nosuch' context",
            ),
            (OWN, 0, "Usage: whatever\n", "", "done"),
            (OWN, 3, "", "no\x1b[2J\n", "the command failed, exit status: 3: no\\x1b[2J"),
            (
                OWN,
                0,
                "",
                "Unable to connect to remote asterisk\n",
                "Asterisk is not running, or does not let this \
                user in: Unable to connect to remote asterisk",
            ),
        ] {
            let said = match verdict(&words(command), &answer(code, stdout, stderr)) {
                Verdict::Done => "done".to_owned(),
                Verdict::Later(why) => format!("later: {why}"),
                Verdict::Unready(why) => format!("unready: {why}"),
                Verdict::LoadedNothing(why) => format!("nothing: {why}"),
                Verdict::Failed(why) => why,
            };
            assert_eq!(said, expected, "{command}: {stdout}{stderr}");
        }
    }

    #[test]
    fn the_same_asterisk_is_asked() {
        for (command, expected) in [
            ("asterisk|-rx|dialplan reload", Some("asterisk|-rx|dialplan show")),
            (
                "sudo|-u|asterisk|asterisk|-C|/x|-rx|dialplan reload",
                Some("sudo|-u|asterisk|asterisk|-C|/x|-rx|dialplan show"),
            ),
            ("/usr/local/bin/reload", None),
            ("sh|-c|asterisk -rx 'dialplan reload'", None),
            ("-rx|dialplan reload", None),
            ("true", None),
        ] {
            assert_eq!(asking(&words(command), "dialplan show"), expected.map(words), "{command}");
        }
        assert_eq!(asking(&[], "x"), None);
    }

    const DIALPLAN: &str = "\
[ Context 'after' created by 'pbx_config' ]
  's' (CID match '123') =>  1. NoOp(cid)                                  [extensions.conf:9]
  's' =>            hint: SIP/x                                   [extensions.conf:4]

[ Context ' a 'b' created by ' created by 'pbx_config' ]
  '1' =>            1. NoOp([ Context 'no' created by 'pbx_config' ])       [10-one.conf:2]
     [label]        2. Hangup()                                   [10-[x] two.conf:3]
                    3. Hangup()                                   [pbx_lua]
  Include =>        'after'                                       [pbx_config]
  Ignore pattern => '9'                                           [pbx_config]
  Alt. Switch =>    'Realtime/x'                                  [pbx_config]

-= 3 extensions (5 priorities) in 2 contexts. =-
";

    fn read(text: &str) -> Dialplan {
        let kept: Vec<u8> =
            text.split_inclusive('\n').flat_map(|line| what_matters(line.as_bytes())).copied().collect();
        Dialplan::read(&kept)
    }

    #[test]
    fn what_a_dialplan_shows() {
        let dialplan = read(DIALPLAN);
        assert_eq!(
            dialplan.contexts,
            ["after", " a 'b' created by "].map(|name| name.as_bytes().to_vec()).into()
        );
        assert!(dialplan.has_all_contexts && dialplan.has_all_extensions);
        for (file, is_shown) in
            [("extensions.conf", true), ("x/10-one.conf", true), ("pbx_lua", false), ("2.conf", false)]
        {
            assert_eq!(dialplan.has_file(Path::new(file)), is_shown, "{file}");
        }
        let empty = read("-= 0 extensions (0 priorities) in 0 contexts. =-\n");
        assert!(empty.has_all_contexts && empty.has_all_extensions);
        let one = read("[ Context 'a' created by 'x' ]\n-= 1 extension (1 priority) in 1 context. =-\n");
        assert!(one.has_all_contexts && !one.has_all_extensions);
    }

    #[test]
    fn lines_that_asterisk_drops_are_noticed() {
        let part = read(&DIALPLAN.replace("[ Context 'after' created by 'pbx_config' ]\n", ""));
        assert!(!part.has_all_contexts && part.has_all_extensions);
        let part = read(&DIALPLAN.replace(
            "  's' =>            hint: SIP/x                                   [extensions.conf:4]\n",
            "",
        ));
        assert!(part.has_all_contexts && !part.has_all_extensions);
        for unknown in [read(&DIALPLAN.replace("-= ", "")), read("")] {
            assert!(!unknown.has_all_contexts && !unknown.has_all_extensions);
        }
    }

    #[test]
    fn settings() {
        let shown = b"* Directories\n  -------------\n  Configuration file:          /x/asterisk.conf\n  \
                      Configuration directory:     /srv/a b\n  Data directory:              /usr/share/asterisk\n";
        assert_eq!(setting(shown, "Configuration directory"), Some(PathBuf::from("/srv/a b")));
        assert_eq!(setting(shown, "Data directory"), Some(PathBuf::from("/usr/share/asterisk")));
        assert_eq!(setting(b"Usage: x\n", "Data directory"), None);
    }

    #[test]
    fn music_on_hold() {
        let classes = "Class: default\n\tMode: files\n\tDirectory: /m/default\n\
                       Class: play\n\tMode: playlist\n\tDirectory: nodir\n\tFormat: slin\n\
                       Class: a b\n\tMode: files\n\tDirectory: /m/a b/\n";
        let class =
            |directory: &'static str, is_files| MohClass { directory: directory.as_bytes(), is_files };
        let expected = [class("/m/default", true), class("nodir", false), class("/m/a b/", true)];
        assert_eq!(moh_classes(classes.as_bytes()), expected);
        let files = "Class: default\n\tFile: /m/default/beep\n\tFile: /m/default/new\nline\n\tFile: /m/default/trail \n\
                     Class: a b\n\tFile: /m/a b//x.y\n";
        let expected = ["/m/default/beep", "/m/default/new\nline", "/m/default/trail ", "/m/a b//x.y"];
        assert_eq!(moh_files(files.as_bytes()), expected.map(|file| file.as_bytes().to_vec()));
        assert!(moh_files(b"").is_empty());
    }

    #[test]
    fn extensions_of_formats() {
        let shown = "Format     Name       Extensions          \n------     ----       ----------          \n\
                     alaw       alaw       alaw|al|alw         \nslin       wav        wav                 \n\
                     2 file formats registered.\n";
        let expected = ["al", "alaw", "alw", "wav"].map(|extension| extension.as_bytes().to_vec());
        assert_eq!(file_extensions(shown.as_bytes()), expected.into());
        assert!(file_extensions(b"Usage: x y z\n").is_empty());
    }

    /// As Asterisk 16 shows a directory with each of these in it.
    #[test]
    fn names_of_music() {
        for (name, shown) in [
            ("a.wav", Some("a")),
            ("a.b.c.wav", Some("a.b.c")),
            ("b.mp3", Some("b")),
            ("readme.txt", Some("readme")),
            ("song.wav.part", Some("song.wav")),
            (" lead.wav", Some(" lead")),
            ("x.yy", Some("x")),
            ("x.y", None),
            ("xx.y", None),
            ("dot.", None),
            ("noext", None),
            (".hid.wav", None),
            ("..wav", None),
        ] {
            assert_eq!(moh_entry(name.as_bytes()), shown.map(str::as_bytes), "{name}");
        }
    }
}
