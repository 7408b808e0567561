//! Reloads on a host that says what the test has it say.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use super::*;

/// Answers to the commands that are expected, in this order, and how often there is time for another try.
struct Script {
    answers: VecDeque<(&'static str, String)>,
    pauses: usize,
}

impl Host for Script {
    fn run(&mut self, command: &[String], keep: Keep) -> Result<Answer, String> {
        let (expected, stdout) = self.answers.pop_front().unwrap();
        assert_eq!(command.last().unwrap(), expected);
        let kept = stdout.split_inclusive('\n').filter(|line| keep(line.as_bytes()));
        let stdout = kept.collect::<String>().into_bytes();
        Ok(Answer { status: ExitStatus::from_raw(0), stdout, stderr: Vec::new() })
    }

    fn pause(&mut self) -> bool {
        self.pauses = self.pauses.saturating_sub(1);
        self.pauses > 0
    }
}

/// What comes of a reload of `root`'s files `files`, separated by spaces. All answers must be asked for.
fn check<S: Into<String>>(
    name: &str,
    root: &Path,
    files: &str,
    answers: Vec<(&'static str, S)>,
) -> ReloadOutcome {
    let files = files.split_whitespace().map(|file| RelPathBuf::new(file.as_bytes()).unwrap()).collect();
    let request = ReloadRequest {
        name: name.to_owned(),
        files: vec![(root.to_owned(), files)],
        timeout: Duration::ZERO,
    };
    let command = |name: &str| {
        let words = ["asterisk", "-rx", &format!("{name} reload")].map(str::to_owned);
        (name.to_owned(), words.to_vec())
    };
    let commands = ["dialplan", "moh", "queue"].map(command).into();
    let answers = answers.into_iter().map(|(command, answer)| (command, answer.into())).collect();
    let mut host = Script { answers, pauses: 10 };
    let outcome = reload(&request, &commands, &mut host);
    assert!(host.answers.is_empty(), "never asked: {:?}", host.answers);
    outcome
}

fn done(name: &str) -> ReloadOutcome {
    ReloadOutcome { name: name.to_owned(), state: ReloadState::Done, detail: None }
}

fn failed(outcome: &ReloadOutcome) -> &str {
    assert_eq!(outcome.state, ReloadState::Failed, "{outcome:?}");
    outcome.detail.as_deref().unwrap()
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

const RELOADED: (&str, &str) = ("dialplan reload", "Dialplan reloaded.\n");
const BUSY: &str = "A module reload request is already in progress; please be patient\n";

fn shown(contexts: &[&str]) -> String {
    let lines = contexts.iter().map(|name| format!("[ Context '{name}' created by 'pbx_config' ]\n\n"));
    format!(
        "{}-= 0 extensions (0 priorities) in {} contexts. =-\n",
        lines.collect::<String>(),
        contexts.len()
    )
}

#[test]
fn a_reload_that_the_node_does_not_know() {
    let outcome = check("shutdown", Path::new("/nowhere"), "", Vec::<(_, &str)>::new());
    assert!(failed(&outcome).contains("node.toml"), "{outcome:?}");
}

#[test]
fn contexts_of_pushed_files_must_show() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (name, content) in [
        ("10-a.conf", "[general]\n[a]\n"),
        ("20-b.conf", "[tmpl](!)\n[b]\n[c]\n"),
        ("README", "nothing here\n"),
        // Not read by Asterisk, or not pushed: these may be missing.
        (".hidden.conf", "[hidden]\n"),
        ("sub/c.conf", "[below]\n"),
        ("node.conf", "[own]\n"),
    ] {
        write(root, name, content);
    }
    symlink("node.conf", root.join("link.conf")).unwrap();
    let pushed = ".hidden.conf 10-a.conf 20-b.conf README gone.conf link.conf sub/c.conf";
    let look = |contexts: &[&str]| {
        check("dialplan", root, pushed, vec![RELOADED, ("dialplan show", &shown(contexts))])
    };

    assert_eq!(look(&["other", "c", "b", "a"]), done("dialplan"));
    assert_eq!(
        failed(&look(&["a", "other"])),
        "contexts are missing in Asterisk: b, c; look for a mistake in 20-b.conf or a file before it, and at \
         Asterisk's log"
    );
}

#[test]
fn many_missing_names_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let contexts: String = (1..=9).map(|number| format!("[c\x1b{number}]\n")).collect();
    write(dir.path(), "x.conf", &contexts);
    let outcome = check("dialplan", dir.path(), "x.conf", vec![RELOADED, ("dialplan show", &shown(&[]))]);
    let detail = failed(&outcome);
    assert!(detail.contains("c\\x1b1, c\\x1b2, c\\x1b3, c\\x1b4, c\\x1b5 and 4 more"), "{detail}");
}

#[test]
fn a_dialplan_shown_in_part_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x.conf", "[a]\n[b]\n");
    let whole = shown(&["a", "b"]);
    let part = whole.replace("[ Context 'b' created by 'pbx_config' ]\n", "");
    let (part, whole) = (("dialplan show", part.as_str()), ("dialplan show", whole.as_str()));
    assert_eq!(
        check("dialplan", dir.path(), "x.conf", vec![RELOADED, part, RELOADED, whole]),
        done("dialplan")
    );
    // What was pushed is there: it does not matter what else was lost on the way.
    assert_eq!(check("dialplan", dir.path(), "", vec![RELOADED, part]), done("dialplan"));
}

#[test]
fn another_reload_on_its_way_is_waited_for() {
    let busy = ("queue reload", BUSY);
    assert_eq!(check("queue", Path::new("/"), "", vec![busy, busy, ("queue reload", "")]), done("queue"));
    let outcome = check("queue", Path::new("/"), "", vec![busy; 10]);
    assert!(failed(&outcome).starts_with("another reload did not end in time"), "{outcome:?}");
}

#[test]
fn an_asterisk_that_cannot_be_asked_has_not_shown_anything() {
    let refused =
        "No such command 'dialplan show' (type 'core show help dialplan show' for other possible commands)\n";
    let outcome = check("dialplan", Path::new("/"), "", vec![RELOADED, ("dialplan show", refused)]);
    assert!(
        failed(&outcome).starts_with("reloaded, but what Asterisk has loaded cannot be seen"),
        "{outcome:?}"
    );
}

/// A root with a link to it, as XiVO has, and what Asterisk shows of its class `jazz`.
struct Music {
    dir: tempfile::TempDir,
}

impl Music {
    fn new(files: &[&str]) -> Music {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("asterisk")).unwrap();
        symlink("asterisk", dir.path().join("xivo")).unwrap();
        for file in files {
            write(&dir.path().join("asterisk"), file, "");
        }
        Music { dir }
    }

    fn at(&self, path: &str) -> String {
        self.dir.path().join(path).display().to_string()
    }

    fn answers(&self, entries: &[&str]) -> Vec<(&'static str, String)> {
        let classes = format!("Class: jazz\n\tMode: files\n\tDirectory: {}/\n", self.at("asterisk/jazz"));
        let entries = entries.iter().map(|entry| format!("\tFile: {}/{entry}\n", self.at("asterisk/jazz/")));
        let files = format!("Class: jazz\n{}", entries.collect::<String>());
        vec![("moh reload", String::new()), ("moh show classes", classes), ("moh show files", files)]
    }

    fn check(&self, pushed: &str, answers: Vec<(&'static str, String)>) -> ReloadOutcome {
        check("moh", &self.dir.path().join("xivo"), pushed, answers)
    }
}

#[test]
fn music_of_loaded_classes_must_show() {
    let music = Music::new(&["jazz/a.wav", "jazz/a.gsm", "jazz/b.mp3", "jazz/LICENSE", "jazz/sub/c.wav"]);
    let pushed = "jazz/a.wav jazz/a.gsm jazz/LICENSE jazz/never-arrived.wav";
    assert_eq!(music.check(pushed, music.answers(&["a", "own"])), done("moh"));

    let outcome =
        music.check("jazz/a.wav jazz/b.mp3", (0..TRIES).flat_map(|_| music.answers(&["a"])).collect());
    assert!(failed(&outcome).starts_with("music on hold is missing in Asterisk: jazz/b.mp3;"), "{outcome:?}");
}

#[test]
fn a_moh_reload_during_another_one_is_repeated() {
    let music = Music::new(&["jazz/a.wav"]);
    let answers = [music.answers(&[]), music.answers(&["a"])].concat();
    assert_eq!(music.check("jazz/a.wav", answers), done("moh"));
}

#[test]
fn music_that_no_class_plays_is_warned_of() {
    let music = Music::new(&["jazz/a.wav", "rock/b.wav"]);
    let outcome = music.check("jazz/a.wav rock/b.wav", music.answers(&["a"]));
    assert_eq!(outcome.state, ReloadState::Done);
    let warning =
        format!("no class of music on hold that Asterisk has loaded plays from {}", music.at("xivo/rock"));
    assert_eq!(outcome.detail, Some(warning));
}

#[test]
fn a_command_of_the_administrators_own_counts_by_its_exit_code() {
    for (script, expected) in [("exit 0", ReloadState::Done), ("exit 1", ReloadState::Failed)] {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let request = ReloadRequest {
            name: "dialplan".to_owned(),
            files: vec![(PathBuf::from("/nowhere"), Vec::new())],
            timeout: Duration::from_secs(60),
        };
        let outcome = run(&request, &[("dialplan".to_owned(), command)].into(), &[]);
        assert_eq!(outcome.state, expected, "{outcome:?}");
    }
}
