//! What Asterisk says to a command, and how to ask it.
//!
//! `asterisk -rx` exits 0 whatever comes of the command, as long as it reaches an Asterisk: the outcome is in
//! the words. The samples in the tests are what an Asterisk 16.28 printed; an Asterisk 22.10 prints the same.

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
}
