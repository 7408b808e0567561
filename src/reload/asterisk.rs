//! What Asterisk says, and how to ask it.
//!
//! `asterisk -rx` exits 0 whatever comes of the command, as long as it reaches an Asterisk: the outcome is in
//! the words. The samples in the tests are what an Asterisk 16.28 printed.

use std::collections::BTreeSet;

use super::command::Answer;
use crate::model::escape::escape_for_people;

/// What came of a reload, as far as its own words tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing speaks against it.
    Done,
    /// Another reload is on its way; it is worth asking again.
    Later(String),
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
    if said("Unable to connect to remote asterisk") {
        let why = "Asterisk is not running, or does not let this user in: ";
        return Verdict::Failed(format!("{why}{}", answer.words()));
    }
    if said("A module reload request is already in progress") {
        return Verdict::Later(format!("another reload did not end in time: {}", answer.words()));
    }
    if said("No such command '") {
        let why = "Asterisk has no such command; is the module loaded that has it? ";
        return Verdict::Failed(format!("{why}{}", answer.words()));
    }
    if !answer.status.success() {
        return Verdict::Failed(format!("the command failed, {}: {}", answer.status, answer.words()));
    }
    let Some(words) = cli_words(command) else {
        return Verdict::Done;
    };
    let is_confirmed = !is_dialplan_reload(words) || said("Dialplan reloaded.");
    if REFUSALS.iter().any(|beginning| said(beginning)) || !is_confirmed {
        return Verdict::Failed(format!("Asterisk did not do it: {}", answer.words()));
    }
    Verdict::Done
}

/// How lines begin by which Asterisk says that it did not do what it was asked, with an exit code of 0.
const REFUSALS: [&str; 4] = ["Command '", "No such module '", "The module '", "Usage: "];

/// Asterisk takes words in any case and with any spaces between.
fn is_dialplan_reload(words: &str) -> bool {
    words.to_ascii_lowercase().split_whitespace().eq(["dialplan", "reload"])
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

/// The lines of `dialplan show` that matter here: not those of extensions, which can be many megabytes.
pub(super) fn is_no_extension(line: &[u8]) -> bool {
    !line.starts_with(b" ")
}

/// What `dialplan show` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contexts {
    /// Names of contexts, whoever made them.
    pub(super) names: BTreeSet<Vec<u8>>,
    /// Whether these are all. Asterisk drops lines for a reader who is slow, and goes on.
    pub(super) complete: bool,
}

impl Contexts {
    pub(super) fn read(shown: &[u8]) -> Contexts {
        let mut names = BTreeSet::new();
        let mut count = None;
        for line in shown.split(|&byte| byte == b'\n') {
            if let Some(rest) = line.strip_prefix(b"[ Context '") {
                // A name may have quotes of its own.
                const END: &[u8] = b"' created by '";
                if let Some(end) = rest.windows(END.len()).rposition(|window| window == END) {
                    names.insert(rest[..end].to_vec());
                }
            } else if let Some(rest) = line.strip_prefix(b"-= ") {
                // "-= 3 extensions (3 priorities) in 2 contexts. =-"
                let words: Vec<&[u8]> = rest.split(|&byte| byte == b' ').collect();
                count = words
                    .windows(2)
                    .find(|pair| pair[1].starts_with(b"context"))
                    .and_then(|pair| std::str::from_utf8(pair[0]).ok()?.parse::<usize>().ok());
            }
        }
        Contexts { complete: count == Some(names.len()), names }
    }
}

/// The directories of `moh show classes` that are played file by file.
///
/// ```text
/// Class: default
///     Mode: files
///     Directory: /var/lib/asterisk/moh
/// ```
pub(super) fn moh_directories(shown: &[u8]) -> Vec<&[u8]> {
    let mut directories = Vec::new();
    let mut is_files = false;
    for line in shown.split(|&byte| byte == b'\n') {
        if line.starts_with(b"Class: ") {
            is_files = false;
        } else if let Some(mode) = line.strip_prefix(b"\tMode: ") {
            is_files = mode == b"files";
        } else if is_files && let Some(directory) = line.strip_prefix(b"\tDirectory: ") {
            directories.push(directory);
        }
    }
    directories
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
                "Asterisk has no such command; is the module loaded that has it? No such command 'dialplan reload' \
                 (type 'core show help dialplan reload' for other possible commands)",
            ),
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
                "Asterisk did not do it: No such module 'app_queue.so'",
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
  's' =>            1. NoOp()                                     [extensions.conf:9]

[ Context ' a 'b' created by ' created by 'pbx_config' ]
  '1' =>            1. NoOp([ Context 'no' created by 'pbx_config' ])       [10-one.conf:2]
                    2. Hangup()                                   [10-one.conf:3]
  Include =>        'after'                                       [pbx_config]

-= 2 extensions (3 priorities) in 2 contexts. =-
";

    #[test]
    fn contexts_of_a_dialplan() {
        let names = ["after", " a 'b' created by "].map(|name| name.as_bytes().to_vec()).into();
        let read = |text: &str| {
            let kept: String =
                text.split_inclusive('\n').filter(|line| is_no_extension(line.as_bytes())).collect();
            Contexts::read(kept.as_bytes())
        };
        assert_eq!(read(DIALPLAN), Contexts { names, complete: true });
        assert!(read("-= 0 extensions (0 priorities) in 0 contexts. =-\n").complete);
        assert!(
            read("[ Context 'a' created by 'x' ]\n-= 1 extension (1 priority) in 1 context. =-\n").complete
        );
        // Asterisk dropped lines.
        assert!(!read(&DIALPLAN.replace("[ Context 'after' created by 'pbx_config' ]\n", "")).complete);
        assert!(!read(&DIALPLAN.replace("-= ", "")).complete);
        assert!(!read("").complete);
    }

    #[test]
    fn music_on_hold() {
        let classes = "Class: default\n\tMode: files\n\tDirectory: /m/default\n\
                       Class: play\n\tMode: playlist\n\tDirectory: nodir\n\tFormat: slin\n\
                       Class: a b\n\tMode: files\n\tDirectory: /m/a b/\n";
        assert_eq!(moh_directories(classes.as_bytes()), [&b"/m/default"[..], b"/m/a b/"]);
        let files = "Class: default\n\tFile: /m/default/beep\n\tFile: /m/default/new\nline\n\tFile: /m/default/trail \n\
                     Class: a b\n\tFile: /m/a b//x.y\n";
        let expected = ["/m/default/beep", "/m/default/new\nline", "/m/default/trail ", "/m/a b//x.y"];
        assert_eq!(moh_files(files.as_bytes()), expected.map(|file| file.as_bytes().to_vec()));
        assert!(moh_files(b"").is_empty());
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
