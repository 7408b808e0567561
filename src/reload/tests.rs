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
        let kept = stdout.split_inclusive('\n').flat_map(|line| keep(line.as_bytes()));
        let stdout = kept.copied().collect();
        Ok(Answer { status: ExitStatus::from_raw(0), stdout, stderr: Vec::new() })
    }

    fn pause(&mut self) -> bool {
        self.pauses = self.pauses.saturating_sub(1);
        self.pauses > 0
    }
}

/// What comes of a reload of a directory. All answers must be asked for.
fn check<S: Into<String>>(name: &str, root: &Path, answers: Vec<(&'static str, S)>) -> ReloadOutcome {
    let request =
        ReloadRequest { name: name.to_owned(), roots: vec![root.to_owned()], timeout: Duration::ZERO };
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
    let outcome = check("shutdown", Path::new("/nowhere"), Vec::<(_, &str)>::new());
    assert!(failed(&outcome).contains("node.toml"), "{outcome:?}");
}

/// An Asterisk whose configuration is in `etc`; `extra.d` is the dialplan directory.
struct Config {
    dir: tempfile::TempDir,
}

impl Config {
    fn new(files: &[(&str, &str)]) -> Config {
        let config = Config { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(config.root()).unwrap();
        for (name, content) in files {
            write(config.dir.path(), &format!("etc/{name}"), content);
        }
        config
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("etc/extra.d")
    }

    /// The settings of this Asterisk.
    fn settings(&self) -> String {
        format!("  Configuration directory:     {}\n", self.dir.path().join("etc").display())
    }

    fn look(&self, contexts: &[&str]) -> ReloadOutcome {
        self.check(vec![RELOADED.0, "dialplan show"], vec![RELOADED.1.to_owned(), shown(contexts)])
    }

    fn check(&self, asked: Vec<&'static str>, answers: Vec<String>) -> ReloadOutcome {
        let last = ("core show settings", self.settings());
        let answers = asked.into_iter().zip(answers).chain([last]).collect();
        check("dialplan", &self.root(), answers)
    }
}

const ALL: &str = "#include extra.d/*\n";
const CONF: &str = "#include extra.d/*.conf\n";

#[test]
fn contexts_of_all_files_that_are_read_must_show() {
    let config = Config::new(&[
        ("extensions.conf", "#include extra.d/*\n[main]\n"),
        ("extra.d/10-a.conf", "[general]\n[a]\n#include sub/c.conf\n"),
        ("extra.d/20-b.conf", "[tmpl](!)\n[b]\n"),
        ("extra.d/95-own.conf", "[own]\n"),
        ("extra.d/README", "nothing here\n"),
        ("sub/c.conf", "[included]\n"),
        // Not read by Asterisk: these may be missing.
        ("extra.d/.hidden.conf", "[hidden]\n"),
        ("extra.d/sub/d.conf", "[below]\n"),
        ("other.conf", "[elsewhere]\n"),
    ]);
    symlink("95-own.conf", config.root().join("link.conf")).unwrap();
    assert_eq!(config.look(&["other", "own", "b", "included", "a", "main"]), done("dialplan"));
    let why = "contexts are missing in Asterisk: b, own; look for a mistake in 20-b.conf or a file that is read before \
               it, and at Asterisk's log";
    assert_eq!(failed(&config.look(&["a", "included", "main"])), why);
    // What a pushed file includes from elsewhere.
    assert!(failed(&config.look(&["a", "b", "own", "main"])).contains("in Asterisk: included;"));
    // What comes after it in the node's own extensions.conf.
    let why = "missing in Asterisk: main, own; look for a mistake in 95-own.conf";
    assert!(failed(&config.look(&["a", "b", "included"])).contains(why));
}

#[test]
fn a_file_that_asterisk_does_not_read_is_warned_of() {
    let config = Config::new(&[
        ("extensions.conf", CONF),
        ("extra.d/10-a.conf", "[a]\n"),
        ("extra.d/README", "for example:\n[example]\n"),
        ("extra.d/old.conf.bak", "[old]\n"),
        ("extra.d/LICENSE", "[a]\n"),
    ]);
    let outcome = config.look(&["a"]);
    assert_eq!(outcome.state, ReloadState::Done);
    let warning = "Asterisk shows nothing of README, old.conf.bak, which its extensions.conf may not include; `exclude` in \
                   Main's configuration leaves such names out";
    assert_eq!(outcome.detail.as_deref(), Some(warning));
}

/// A dialplan that shows these contexts, and an extension of each of these files.
fn shown_of(contexts: &[&str], files: &[&str]) -> String {
    let extension =
        |file: &&str| format!("  '1' =>            1. NoOp()                          [{file}:2]\n");
    let (number, extensions) = (files.len(), files.iter().map(extension).collect::<String>());
    let sum = format!("-= {number} extensions ({number} priorities) in {} contexts. =-\n", contexts.len());
    let (contexts, _) =
        shown(contexts).rsplit_once("-= ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    format!("{contexts}{extensions}{sum}")
}

/// Nothing includes it, or a generator does.
#[test]
fn where_the_include_is_not_found_what_shows_tells() {
    for (extensions, is_known) in [("#exec generator\n", false), ("[main]\n", true)] {
        let config = Config::new(&[
            ("extensions.conf", extensions),
            ("extra.d/10-a.conf", "[a]\nexten => 1,1,NoOp()\n"),
            ("extra.d/20-b.conf", "[b]\n"),
            ("extra.d/README", "[example]\n"),
        ]);
        let look = |contexts: &[&str], files: &[&str]| {
            config.check(
                vec![RELOADED.0, "dialplan show"],
                vec![RELOADED.1.to_owned(), shown_of(contexts, files)],
            )
        };
        // A directory of which nothing shows is never owed.
        let outcome = look(&["main"], &[]);
        assert_eq!(outcome.state, ReloadState::Done, "{outcome:?}");
        let warning = outcome.detail.unwrap();
        assert!(warning.contains("shows nothing of 10-a.conf, 20-b.conf, README, which"), "{warning}");
        let outcome = look(&["main", "a"], &["10-a.conf"]);
        match is_known {
            true => assert_eq!(outcome.state, ReloadState::Done, "{outcome:?}"),
            false => assert!(failed(&outcome).contains("in Asterisk: b; look for a mistake in 20-b.conf")),
        }
    }
}

#[test]
fn an_asterisk_that_has_loaded_nothing_goes_on_with_what_it_had() {
    let nothing = "The module 'pbx_config.so' reported a reload failure\n";
    for (extensions, why) in [
        (Some(ALL), "; extensions.conf includes extra.d/*, which matches no file"),
        (
            Some("#include extra.d/*\n#include no.conf\n"),
            "includes extra.d/*, no.conf, which matches no file",
        ),
        (Some("[main]\n"), "; does everything exist that extensions.conf includes?"),
        (None, "; is there an extensions.conf?"),
    ] {
        let config = Config::new(&[]);
        if let Some(extensions) = extensions {
            write(config.dir.path(), "etc/extensions.conf", extensions);
        }
        let outcome = config.check(vec![RELOADED.0], vec![nothing.to_owned()]);
        let detail = failed(&outcome);
        assert!(detail.starts_with("Asterisk has loaded nothing: The module 'pbx_config.so'"), "{detail}");
        assert!(
            detail.contains(
                "; it goes on with the dialplan that it had, and would have none after a restart; "
            )
        );
        assert!(detail.ends_with(why), "{detail}");
    }
    let outcome = check(
        "queue",
        Path::new("/"),
        vec![("queue reload", "The module 'app_queue.so' reported a reload failure\n")],
    );
    assert!(failed(&outcome).ends_with("; it goes on with what it had"), "{outcome:?}");
}

#[test]
fn files_that_asterisk_cannot_make_sense_of_are_warned_of() {
    let wide: String =
        "; x\r\n[wide]\r\nexten => 1,1,NoOp()\r\n".chars().flat_map(|char| [char, '\0']).collect();
    let config = Config::new(&[
        ("extensions.conf", ALL),
        ("extra.d/10-utf16.conf", &wide),
        ("extra.d/20-mac.conf", "[mac]\rexten => 1,1,NoOp()\r"),
        ("extra.d/30-dos.conf", "[dos]\r\nexten => 1,1,NoOp()\r\n"),
    ]);
    let shown = "[ Context 'mac' created by 'pbx_config' ]\n[ Context 'dos' created by 'pbx_config' ]\n\
                 -= 1 extension (0 priorities) in 2 contexts. =-\n";
    let outcome =
        config.check(vec![RELOADED.0, "dialplan show"], vec![RELOADED.1.to_owned(), shown.to_owned()]);
    assert_eq!(outcome.state, ReloadState::Done, "{outcome:?}");
    let detail = outcome.detail.unwrap();
    assert!(detail.contains("Asterisk does not see all of it: 10-utf16.conf, 20-mac.conf"), "{detail}");
    assert!(detail.contains("Asterisk shows no extension of 30-dos.conf"), "{detail}");
}

#[test]
fn a_file_of_which_extensions_show_is_in_order() {
    let config =
        Config::new(&[("extensions.conf", ALL), ("extra.d/10-a.conf", "[a]\nexten => 1,1,NoOp()\n")]);
    let shown = |place: &str| {
        format!(
            "[ Context 'a' created by 'pbx_config' ]\n  '1' =>            1. NoOp()                          [{place}]\n\
             -= 1 extension (1 priority) in 1 context. =-\n"
        )
    };
    let look = |place: &str| {
        config.check(vec![RELOADED.0, "dialplan show"], vec![RELOADED.1.to_owned(), shown(place)])
    };
    assert_eq!(look("10-a.conf:2"), done("dialplan"));
    assert!(look("00-other.conf:2").detail.unwrap().contains("shows no extension of 10-a.conf"));
}

#[test]
fn many_missing_names_are_counted() {
    let contexts: String = (1..=9).map(|number| format!("[c\x1b{number}]\n")).collect();
    let config = Config::new(&[("extensions.conf", ALL), ("extra.d/x.conf", &contexts)]);
    let outcome = config.look(&[]);
    let detail = failed(&outcome);
    assert!(detail.contains("c\\x1b1, c\\x1b2, c\\x1b3, c\\x1b4, c\\x1b5 and 4 more"), "{detail}");
}

#[test]
fn a_dialplan_shown_in_part_is_asked_for_again() {
    let config = Config::new(&[("extensions.conf", ALL), ("extra.d/x.conf", "[a]\n[b]\n")]);
    let whole = shown(&["a", "b"]);
    let part = whole.replace("[ Context 'b' created by 'pbx_config' ]\n", "");
    let asked = vec![RELOADED.0, "dialplan show", "core show settings", RELOADED.0, "dialplan show"];
    let reloaded = RELOADED.1.to_owned();
    let answers = vec![reloaded.clone(), part.clone(), config.settings(), reloaded.clone(), whole];
    assert_eq!(config.check(asked, answers), done("dialplan"));
    // What lies in the directory is there: it does not matter what else was lost on the way.
    fs::remove_file(config.root().join("x.conf")).unwrap();
    assert_eq!(config.check(vec![RELOADED.0, "dialplan show"], vec![reloaded, part]), done("dialplan"));
}

const BOOTED: (&str, &str) = ("core waitfullybooted", "Asterisk has fully booted.\n");

#[test]
fn an_asterisk_that_boots_is_waited_for() {
    let unknown = ("queue reload", "No such command 'queue reload' (type …)\n");
    let root = Path::new("/");
    assert_eq!(check("queue", root, vec![unknown, BOOTED, ("queue reload", "")]), done("queue"));
    assert!(failed(&check("queue", root, vec![unknown, BOOTED, unknown])).contains("no such command"));
    // Not in order, or too old to know.
    let unknown_too = ("core waitfullybooted", "No such command 'core waitfullybooted' (type …)\n");
    assert!(failed(&check("queue", root, vec![unknown, unknown_too])).contains("'queue reload'"));
    let stopping = ("core waitfullybooted", "Command 'core waitfullybooted' cannot be run during shutdown\n");
    assert!(failed(&check("queue", root, vec![unknown, stopping])).contains("shutting down"));
    let yet = ("queue reload", "Asterisk cannot reload a module yet; request queued\n");
    assert_eq!(check("queue", root, vec![yet, ("queue reload", "")]), done("queue"));
}

#[test]
fn another_reload_on_its_way_is_waited_for() {
    let busy = ("queue reload", BUSY);
    assert_eq!(check("queue", Path::new("/"), vec![busy, busy, ("queue reload", "")]), done("queue"));
    let outcome = check("queue", Path::new("/"), vec![busy; 10]);
    assert!(failed(&outcome).starts_with("another reload did not end in time"), "{outcome:?}");
}

#[test]
fn an_asterisk_that_cannot_be_asked_has_not_shown_anything() {
    let refused =
        "No such command 'dialplan show' (type 'core show help dialplan show' for other possible commands)\n";
    let outcome = check("dialplan", Path::new("/"), vec![RELOADED, ("dialplan show", refused)]);
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
            write(&dir.path().join("asterisk"), file, "x");
        }
        Music { dir }
    }

    fn at(&self, path: &str) -> String {
        self.dir.path().join(path).display().to_string()
    }

    fn answers(&self, entries: &[&str]) -> Vec<(&'static str, String)> {
        let directory = format!("{}/", self.at("asterisk/jazz"));
        self.answers_with(&directory, entries)
    }

    /// `directory`: as the class names it.
    fn answers_with(&self, directory: &str, entries: &[&str]) -> Vec<(&'static str, String)> {
        let classes = format!("Class: jazz\n\tMode: files\n\tDirectory: {directory}\n");
        let entries = entries.iter().map(|entry| format!("\tFile: {}/{entry}\n", self.at("asterisk/jazz/")));
        let files = format!("Class: jazz\n{}", entries.collect::<String>());
        let here = self.dir.path().display();
        let settings = format!("  Configuration directory: {here}/etc\n  Data directory:  {here}/asterisk\n");
        let formats =
            "Format Name Extensions\n------ ---- ----------\ngsm gsm gsm\nslin wav wav\nslin16 wav16 wav16\n";
        vec![
            ("moh reload", String::new()),
            ("moh show classes", classes),
            ("moh show files", files),
            ("core show settings", settings),
            ("core show file formats", formats.to_owned()),
        ]
    }

    fn check(&self, answers: Vec<(&'static str, String)>) -> ReloadOutcome {
        check("moh", &self.dir.path().join("xivo"), answers)
    }

    /// As often as it is tried.
    fn always(&self, entries: &[&str]) -> ReloadOutcome {
        self.check((0..TRIES).flat_map(|_| self.answers(entries)).collect())
    }
}

#[test]
fn music_of_loaded_classes_must_show() {
    let music = Music::new(&["jazz/a.wav", "jazz/a.gsm", "jazz/own.gsm", "jazz/LICENSE", "jazz/sub/LICENSE"]);
    assert_eq!(music.check(music.answers(&["a", "own"])), done("moh"));
    let outcome = music.always(&["a"]);
    let expected = format!("music on hold is missing in Asterisk: {};", music.at("xivo/jazz/own.gsm"));
    assert!(failed(&outcome).starts_with(&expected), "{outcome:?}");
}

#[test]
fn music_that_is_gone_must_not_show() {
    let music = Music::new(&["jazz/a.wav"]);
    let outcome = music.always(&["a", "old"]);
    let expected =
        format!("music on hold that is gone still shows in Asterisk: {};", music.at("xivo/jazz/old"));
    assert!(failed(&outcome).starts_with(&expected), "{outcome:?}");
}

/// `directory=moh` is what Debian ships.
#[test]
fn a_class_with_a_relative_directory_is_looked_at() {
    let music = Music::new(&["jazz/a.wav", "jazz/b.wav"]);
    let outcome = music.check((0..TRIES).flat_map(|_| music.answers_with("jazz", &["a"])).collect());
    assert!(failed(&outcome).contains("missing in Asterisk"), "{outcome:?}");
    assert_eq!(music.check(music.answers_with("jazz", &["a", "b"])), done("moh"));
}

#[test]
fn a_link_to_nowhere_is_named() {
    let music = Music::new(&["jazz/a.wav", "jazz/b.wav"]);
    symlink("/nowhere", music.dir.path().join("asterisk/jazz/dead.wav")).unwrap();
    let outcome = music.check(music.answers(&["a"]));
    let expected = format!("with a link to nowhere: {}", music.at("xivo/jazz/dead.wav"));
    assert!(failed(&outcome).ends_with(&expected), "{outcome:?}");
    // It is no reason as long as everything shows.
    assert_eq!(music.check(music.answers(&["a", "b"])), done("moh"));
}

#[test]
fn a_moh_reload_during_another_one_is_repeated() {
    let music = Music::new(&["jazz/a.wav"]);
    let answers = [music.answers(&[]), music.answers(&["a"])].concat();
    assert_eq!(music.check(answers), done("moh"));
}

#[test]
fn music_that_no_class_plays_is_warned_of() {
    let music = Music::new(&["jazz/a.wav", "rock/b.wav", "docs/LICENSE"]);
    let outcome = music.check(music.answers(&["a"]));
    assert_eq!(outcome.state, ReloadState::Done);
    let warning = format!(
        "no class of music on hold that Asterisk has loaded plays from {}; if musiconhold.conf has one, `touch` that file \
         on the node, and give `xds-sync sync --reload`",
        music.at("xivo/rock")
    );
    assert_eq!(outcome.detail, Some(warning));
}

/// A program plays it, which Asterisk does not ask what it has.
#[test]
fn music_of_another_mode_is_left_to_it() {
    let music = Music::new(&["jazz/a.wav", "rock/b.wav"]);
    let directory = music.at("asterisk/rock");
    write(music.dir.path(), "etc/musiconhold.conf", &format!("[rock]\nmode=custom\ndirectory={directory}\n"));
    let mut answers = music.answers(&["a"]);
    answers[1].1 += &format!("Class: rock\n\tMode: custom\n\tDirectory: {directory}\n");
    assert_eq!(music.check(answers), done("moh"));
}

/// Asterisk keeps what a class had, as long as its directory is missing.
#[test]
fn music_of_a_directory_that_is_gone_must_not_show() {
    let music = Music::new(&["jazz/a.wav"]);
    let mut answers = music.answers(&["a"]);
    answers[2].1 += &format!("Class: rock\n\tFile: {}\n", music.at("xivo/rock/b"));
    let outcome = music.check(answers);
    let expected = format!("music on hold of {}, which does not exist any more", music.at("asterisk/rock"));
    assert!(failed(&outcome).starts_with(&expected), "{outcome:?}");
    // Elsewhere, it is no business of ours.
    let mut answers = music.answers(&["a"]);
    answers[2].1 += "Class: rock\n\tFile: /nowhere/rock/b\n";
    assert_eq!(music.check(answers), done("moh"));
}

/// Its directory was empty when Asterisk started; no reload makes it.
#[test]
fn a_class_that_asterisk_did_not_make_is_named() {
    for directory in ["ROOT/xivo/rock", "rock/"] {
        let music = Music::new(&["jazz/a.wav", "rock/b.wav"]);
        let here = music.dir.path().display().to_string();
        let class = format!("[rock]\nmode=files\ndirectory => {directory} ; rock\n");
        write(music.dir.path(), "etc/musiconhold.conf", &class.replace("ROOT", &here));
        let outcome = music.check(music.answers(&["a"]));
        let expected = format!("until {here}/etc/musiconhold.conf is newer; `touch` that file on the node");
        assert!(failed(&outcome).contains(&music.at("xivo/rock")), "{outcome:?}");
        assert!(failed(&outcome).ends_with(&expected), "{outcome:?}");
    }
}

#[test]
fn music_that_cannot_be_played_is_warned_of() {
    let header = |channels: u8, rate: u32| {
        let mut header = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0".to_vec();
        header.extend([channels, 0]);
        header.extend(rate.to_le_bytes());
        header
    };
    let music = Music::new(&["jazz/x.gsm"]);
    for (name, content) in [
        ("a.wav", header(1, 8000)),
        ("b.wav", header(2, 8000)),
        ("c.wav", header(1, 44100)),
        ("d.wav16", header(1, 16000)),
        ("e.wav16", header(1, 8000)),
        ("f.gsm", Vec::new()),
        ("g.wav", b"RIFF".to_vec()),
        ("h.mp3", b"x".to_vec()),
        // Asterisk has the other one to play.
        ("x.mp3", b"x".to_vec()),
    ] {
        fs::write(music.dir.path().join("asterisk/jazz").join(name), content).unwrap();
    }
    let outcome = music.check(music.answers(&["a", "b", "c", "d", "e", "f", "g", "h", "x"]));
    assert_eq!(outcome.state, ReloadState::Done, "{outcome:?}");
    let detail = outcome.detail.unwrap();
    assert!(detail.starts_with("music on hold that cannot be played: "), "{detail}");
    for (name, is_named) in [
        ("a.wav ", false),
        ("b.wav (not mono)", true),
        ("c.wav (not 8 kHz)", true),
        ("d.wav16", false),
        ("e.wav16 (not 16 kHz)", true),
        ("f.gsm (empty)", true),
        ("g.wav", false),
        ("h.mp3 (no module is loaded that plays such a file)", true),
        ("x.mp3", false),
    ] {
        assert_eq!(detail.contains(name), is_named, "{name}: {detail}");
    }
}

#[test]
fn a_limit_is_named_with_its_setting() {
    let command = ["sleep", "600"].map(str::to_owned).to_vec();
    let request =
        ReloadRequest { name: "queue".to_owned(), roots: Vec::new(), timeout: Duration::from_millis(50) };
    let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
    let outcome = run(&request, &[("queue".to_owned(), command)].into(), &[path]);
    assert!(failed(&outcome).contains("killed after 50ms"), "{outcome:?}");
    assert!(failed(&outcome).contains("sync.reload_timeout"), "{outcome:?}");
}

#[test]
fn a_command_of_the_administrators_own_counts_by_its_exit_code() {
    for (script, expected) in [("exit 0", ReloadState::Done), ("exit 1", ReloadState::Failed)] {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let request = ReloadRequest {
            name: "dialplan".to_owned(),
            roots: vec![PathBuf::from("/nowhere")],
            timeout: Duration::from_secs(60),
        };
        let outcome = run(&request, &[("dialplan".to_owned(), command)].into(), &[]);
        assert_eq!(outcome.state, expected, "{outcome:?}");
    }
}
