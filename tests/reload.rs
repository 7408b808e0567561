//! Reloads of a real Asterisk, of both versions that people run: private, with directories of its own, without ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

#[path = "support/asterisk22.rs"]
mod asterisk22;
#[path = "support/wait.rs"]
mod wait;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use xds_sync::model::{ReloadOutcome, ReloadState};
use xds_sync::reload::{self, ReloadRequest};

use wait::{LIMIT, eventually, exit_code};

/// Starts what it is given in the root of Asterisk 22, with this machine's /tmp, /proc and /dev. The mounts end with it.
const IN_ROOT_22: &str = r#"#!/bin/sh
exec unshare --mount --propagation=private sh -ec '
root=$0
mount --bind /tmp "$root/tmp"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
exec chroot "$root" asterisk "$@"' ROOT "$@"
"#;

/// An Asterisk that runs as long as this value lives.
struct Asterisk {
    dir: tempfile::TempDir,
    /// What starts it, or its client.
    program: String,
    running: Option<Child>,
}

const DIALPLAN: &str = "\
[general]
static=yes

[main]
exten => s,1,NoOp()
#include extensions_extra.d/*
";

impl Asterisk {
    /// Starts one with an own file in its dialplan and a class `jazz`, whose directory is `moh/jazz`.
    fn start(version: u32) -> Asterisk {
        // In /tmp, which both see.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let mut asterisk = Asterisk { dir, program: "asterisk".to_owned(), running: None };
        if version == 22 {
            let root = asterisk22::root();
            asterisk.write("asterisk22", &IN_ROOT_22.replace("ROOT", root.to_str().unwrap()));
            let program = asterisk.at("asterisk22");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            asterisk.program = program.display().to_string();
        }
        for made in ["etc/extensions_extra.d", "moh/jazz", "lib", "run", "log", "spool"] {
            fs::create_dir_all(asterisk.at(made)).unwrap();
        }
        symlink("moh", asterisk.at("xivo")).unwrap();
        symlink("/usr/share/asterisk/documentation", asterisk.at("documentation")).unwrap();
        let base = asterisk.dir.path().display();
        let directories = [
            ("astetcdir", "etc"),
            ("astvarlibdir", "lib"),
            ("astdatadir", ""),
            ("astdbdir", "lib"),
            ("astkeydir", "lib"),
            ("astagidir", "lib"),
            ("astspooldir", "spool"),
            ("astrundir", "run"),
            ("astlogdir", "log"),
        ];
        let directories: String =
            directories.iter().map(|(key, place)| format!("{key} => {base}/{place}\n")).collect();
        // What does not differ from the system's Asterisk: its modules.
        asterisk.write(
            "etc/asterisk.conf",
            &format!("[options]\nexecincludes=yes\n[directories]\n{directories}"),
        );
        asterisk.write(
            "etc/modules.conf",
            "[modules]\nautoload=no\nload = pbx_config.so\nload = format_wav.so\nload = res_musiconhold.so\n",
        );
        asterisk.write("etc/logger.conf", "[logfiles]\nmessages => warning,error\n");
        asterisk.write("etc/extensions.conf", DIALPLAN);
        asterisk.write("etc/extensions_extra.d/00-own.conf", "[own]\nexten => 1,1,NoOp()\n");
        asterisk.write("etc/musiconhold.conf", &format!("[jazz]\nmode=files\ndirectory={base}/moh/jazz\n"));
        asterisk.write("moh/jazz/first.wav", "RIFF");
        asterisk.run();
        let shown = asterisk.output("core show version");
        assert!(shown.starts_with(&format!("Asterisk {version}.")), "{shown}");
        asterisk
    }

    fn run(&mut self) {
        let config = self.at("etc/asterisk.conf");
        let spawned = Command::new(&self.program)
            .args(["-f", "-C"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.running = match spawned {
            Ok(child) => Some(child),
            Err(error) => {
                panic!("this test needs Asterisk ({error}): scripts/test installs what the tests need")
            }
        };
        // It answers as soon as its socket is there, and this command only when all modules are loaded.
        eventually("Asterisk to be booted", LIMIT, || {
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "Asterisk does not start");
            self.output("core waitfullybooted").starts_with("Asterisk has fully booted")
        });
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            self.output("core stop now");
            exit_code(&mut child);
        }
    }

    /// What it answers to this; nothing when it does not run.
    fn output(&self, words: &str) -> String {
        let mut command = Command::new(&self.program);
        command.arg("-C").arg(self.at("etc/asterisk.conf")).args(["-rx", words]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
    }

    /// Runs a reload of what lies in `root`.
    fn reload(&self, name: &str, root: &str) -> ReloadOutcome {
        self.reload_within(name, root, Duration::from_secs(120))
    }

    fn reload_within(&self, name: &str, root: &str, timeout: Duration) -> ReloadOutcome {
        let config = self.at("etc/asterisk.conf").display().to_string();
        let command = |name: &str, words: &str| {
            (name.to_owned(), [&self.program, "-C", &config, "-rx", words].map(str::to_owned).to_vec())
        };
        let mut commands: BTreeMap<String, Vec<String>> = [
            command("dialplan", "module reload pbx_config.so"),
            command("moh", "module reload res_musiconhold.so"),
            command("broken", "dialplan relaod"),
            command("missing", "module reload app_nosuch.so"),
        ]
        .into();
        // What people write, and what earlier versions had.
        let (name, words) = name.split_once(' ').map_or((name, ""), |(name, _)| (name, name));
        if !words.is_empty() {
            commands.extend([command(name, &format!("{words} reload"))]);
        }
        let request = ReloadRequest { name: name.to_owned(), roots: vec![self.at(root)], timeout };
        let path = std::env::var_os("PATH").unwrap_or_default();
        reload::run(&request, &commands, &[("PATH".into(), path)])
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // A test that failed: it must end, however that looks.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn assert_done(outcome: &ReloadOutcome) {
    assert_eq!((outcome.state, outcome.detail.as_deref()), (ReloadState::Done, None));
}

fn assert_failed(outcome: &ReloadOutcome, words: &[&str]) {
    assert_eq!(outcome.state, ReloadState::Failed, "{outcome:?}");
    let detail = outcome.detail.as_deref().unwrap_or_default();
    for word in words {
        assert!(detail.contains(word), "{word:?} is not in {detail:?}");
    }
}

const EXTRA: &str = "etc/extensions_extra.d";

/// The stories share one Asterisk: its start takes longer than all of them.
fn stories(version: u32) {
    let mut asterisk = Asterisk::start(version);
    contexts_are_found(&asterisk);
    lost_contexts_are_named(&asterisk);
    nothing_that_is_loaded_is_not_done(&asterisk);
    what_is_not_included_is_warned_of(&asterisk);
    music_is_found(&asterisk);
    lost_music_is_named(&asterisk);
    relative_classes_are_found(&asterisk);
    another_reload_is_waited_for(&asterisk);
    other_commands(&asterisk);
    denied_commands_are_told(&mut asterisk);
    empty_classes_are_told(&mut asterisk);

    asterisk.stop();
    for name in ["dialplan", "moh", "missing"] {
        let outcome = asterisk.reload(name, EXTRA);
        assert_failed(&outcome, &["Asterisk is not running", "Unable to connect to remote asterisk"]);
    }
}

#[test]
fn reloads_of_asterisk_16() {
    stories(16);
}

#[test]
fn reloads_of_asterisk_22() {
    stories(22);
}

fn contexts_are_found(asterisk: &Asterisk) {
    let headers = "[plain]\n[ spaced ]\n[q'uote] ; [comment]\n;--\n[hidden]\n--;\n[tmpl](!)\n[child](tmpl)\n\
                   [plain](+)\n[General]\n[globals]\n[not] (!)\n[a]b]\n   [indented]\r\n[semi\\;colon]\n[é]\n;--- [x]\n";
    asterisk.write(&format!("{EXTRA}/10-headers.conf"), headers);
    asterisk.write(&format!("{EXTRA}/20-long"), &format!("[{}]\nexten => 1,1,NoOp()\n", "x".repeat(100)));
    fs::create_dir(asterisk.at(&format!("{EXTRA}/sub"))).unwrap();
    asterisk.write(&format!("{EXTRA}/sub/x.conf"), "[below]\n");
    asterisk.write(&format!("{EXTRA}/.hidden.conf"), "[hidden-file]\n");
    assert_done(&asterisk.reload("dialplan", EXTRA));
    assert_done(&asterisk.reload("dialplan reload", EXTRA));
}

fn lost_contexts_are_named(asterisk: &Asterisk) {
    let file = |name: &str| asterisk.at(&format!("{EXTRA}/{name}"));
    // One file takes those after it down, and Asterisk says that it has reloaded. The last is the node's own.
    asterisk.write(&format!("{EXTRA}/30-pushed.conf"), "[lost]\nexten => 1,1,NoOp()\n");
    asterisk.write(&format!("{EXTRA}/95-own.conf"), "[own95]\nexten => 1,1,NoOp()\n");
    for (bad, missing) in [
        ("[kept]\nexten => 1,1,NoOp()\n[open\n", "lost, open, own95, xxx"),
        ("[kept]\nexten => 1,1,NoOp()\n;-- never closed\n", "lost, own95, xxx"),
        ("[kept]\nexten => 1,1,NoOp()\n#include nowhere.conf\n", "lost, own95, xxx"),
    ] {
        asterisk.write(&format!("{EXTRA}/15-bad.conf"), bad);
        for name in ["dialplan", "dialplan reload"] {
            let outcome = asterisk.reload(name, EXTRA);
            assert_failed(&outcome, &["contexts are missing in Asterisk: ", missing]);
        }
    }
    fs::remove_file(file("15-bad.conf")).unwrap();
    assert_done(&asterisk.reload("dialplan", EXTRA));

    // A header behind what nobody sees is none.
    for unseen in ["\u{feff}", "\u{a0}", "\u{200b}"] {
        asterisk.write(
            &format!("{EXTRA}/15-bad.conf"),
            &format!("[kept]\n{unseen}[leak]\nexten => 777,1,NoOp()\n"),
        );
        assert_failed(&asterisk.reload("dialplan", EXTRA), &["missing in Asterisk: leak;", "15-bad.conf"]);
    }
    // What a file includes from elsewhere.
    asterisk.write("etc/inner.conf", "[inner]\n[in12");
    asterisk.write(&format!("{EXTRA}/15-bad.conf"), "#include inner.conf\n");
    assert_failed(&asterisk.reload("dialplan", EXTRA), &["missing in Asterisk: in12;", "inner.conf"]);
    fs::remove_file(file("15-bad.conf")).unwrap();
    assert_done(&asterisk.reload("dialplan", EXTRA));
}

/// Asterisk goes on with the old dialplan: `dialplan reload` says "Dialplan reloaded." to each of these.
fn nothing_that_is_loaded_is_not_done(asterisk: &Asterisk) {
    asterisk.write("etc/extensions.conf", &format!("{DIALPLAN}#include nowhere.conf\n"));
    let outcome = asterisk.reload("dialplan", EXTRA);
    assert_failed(&outcome, &["Asterisk has loaded nothing", "reported a reload failure", "nowhere.conf"]);
    fs::remove_file(asterisk.at("etc/extensions.conf")).unwrap();
    let outcome = asterisk.reload("dialplan", EXTRA);
    assert_failed(&outcome, &["Asterisk has loaded nothing", "is there an extensions.conf?"]);
    asterisk.write("etc/extensions.conf", DIALPLAN);

    fs::rename(asterisk.at(EXTRA), asterisk.at("etc/away")).unwrap();
    fs::create_dir(asterisk.at(EXTRA)).unwrap();
    let outcome = asterisk.reload("dialplan", EXTRA);
    assert_failed(&outcome, &["Asterisk has loaded nothing", "extensions_extra.d/*, which matches no file"]);
    fs::remove_dir(asterisk.at(EXTRA)).unwrap();
    fs::rename(asterisk.at("etc/away"), asterisk.at(EXTRA)).unwrap();
    assert_done(&asterisk.reload("dialplan", EXTRA));
}

fn what_is_not_included_is_warned_of(asterisk: &Asterisk) {
    asterisk.write("etc/extensions.conf", &DIALPLAN.replace("/*", "/*.conf"));
    asterisk.write(&format!("{EXTRA}/README"), "for example:\n[example]\n");
    asterisk.write(&format!("{EXTRA}/x.lua"), "extensions = {\n  [\"default\"] = {} }\n[\"default\"] = 1\n");
    let outcome = asterisk.reload("dialplan", EXTRA);
    assert_eq!(outcome.state, ReloadState::Done, "{outcome:?}");
    let warning = outcome.detail.unwrap();
    assert!(warning.starts_with("Asterisk shows nothing of 20-long, README, x.lua, which"), "{warning}");
    for name in ["README", "x.lua"] {
        fs::remove_file(asterisk.at(&format!("{EXTRA}/{name}"))).unwrap();
    }
    asterisk.write("etc/extensions.conf", DIALPLAN);
    assert_done(&asterisk.reload("dialplan", EXTRA));
}

fn music_is_found(asterisk: &Asterisk) {
    let names = ["new.wav", "two words.wav", "line\nbreak.wav", "LICENSE", "x.y", ".z.wav"];
    for name in names {
        asterisk.write(&format!("moh/jazz/{name}"), "x");
    }
    for name in ["moh", "moh reload"] {
        assert_done(&asterisk.reload(name, "xivo"));
        assert_done(&asterisk.reload(name, "moh"));
    }
    // It shows, too, and nobody will hear it. Asterisk has no format for the first two, and another file for the last.
    for name in ["readme.txt", "song.mp3", "empty.wav", "new.mp3"] {
        asterisk.write(&format!("moh/jazz/{name}"), if name.starts_with("empty") { "" } else { "x" });
    }
    let outcome = asterisk.reload("moh", "moh");
    assert_eq!(outcome.state, ReloadState::Done, "{outcome:?}");
    let warning = outcome.detail.unwrap();
    for name in ["readme.txt (no module", "song.mp3 (no module", "empty.wav (empty)"] {
        assert!(warning.contains(name), "{warning}");
    }
    assert!(!warning.contains("new"), "{warning}");
    for name in ["readme.txt", "song.mp3", "empty.wav"] {
        fs::remove_file(asterisk.at(&format!("moh/jazz/{name}"))).unwrap();
    }
    assert_done(&asterisk.reload("moh", "moh"));
}

fn lost_music_is_named(asterisk: &Asterisk) {
    asterisk.write("moh/jazz/later.wav", "x");
    fs::remove_file(asterisk.at("moh/jazz/new.wav")).unwrap();
    fs::remove_file(asterisk.at("moh/jazz/new.mp3")).unwrap();
    symlink("/nowhere", asterisk.at("moh/jazz/dangling.wav")).unwrap();
    for name in ["moh", "moh reload"] {
        let outcome = asterisk.reload(name, "xivo");
        assert_failed(
            &outcome,
            &[
                "missing in Asterisk: ",
                "jazz/later.wav;",
                "gone still shows in Asterisk: ",
                "jazz/new;",
                "dangling.wav",
            ],
        );
    }
    fs::remove_file(asterisk.at("moh/jazz/dangling.wav")).unwrap();
    assert_done(&asterisk.reload("moh", "xivo"));
}

/// As Debian ships it: `directory=moh`, below Asterisk's data directory.
fn relative_classes_are_found(asterisk: &Asterisk) {
    let absolute = fs::read_to_string(asterisk.at("etc/musiconhold.conf")).unwrap();
    asterisk.write("etc/musiconhold.conf", "[jazz]\nmode=files\ndirectory=moh/jazz\n");
    assert_done(&asterisk.reload("moh", "xivo"));
    symlink("/nowhere", asterisk.at("moh/jazz/dangling.wav")).unwrap();
    asterisk.write("moh/jazz/relative.wav", "x");
    assert_failed(&asterisk.reload("moh", "xivo"), &["missing in Asterisk: ", "jazz/relative.wav;"]);
    fs::remove_file(asterisk.at("moh/jazz/dangling.wav")).unwrap();
    asterisk.write("etc/musiconhold.conf", &absolute);
    assert_done(&asterisk.reload("moh", "xivo"));
}

/// A reload of the dialplan that takes longer than all tries together.
fn another_reload_is_waited_for(asterisk: &Asterisk) {
    let (begun, go_on) = (asterisk.at("begun"), asterisk.at("go-on"));
    let script = "#!/bin/sh\ntouch BEGUN\nsleep 6\nuntil [ -e GO-ON ]; do sleep 0.1; done\n";
    let script = script.replace("BEGUN", begun.to_str().unwrap()).replace("GO-ON", go_on.to_str().unwrap());
    asterisk.write("slow", &script);
    fs::set_permissions(asterisk.at("slow"), fs::Permissions::from_mode(0o755)).unwrap();
    let slow = format!("{DIALPLAN}#exec {}\n", asterisk.at("slow").display());
    asterisk.write("etc/extensions.conf", &slow);
    asterisk.write("moh/jazz/meanwhile.wav", "x");
    asterisk.write("go-on", "");
    thread::scope(|scope| {
        let other = scope.spawn(|| asterisk.reload("dialplan", EXTRA));
        eventually("a reload to be on its way", LIMIT, || begun.exists());
        assert_done(&asterisk.reload("moh", "xivo"));
        assert_done(&other.join().unwrap());
    });
    // One that takes too long is told with the limit; Asterisk ends it all the same.
    fs::remove_file(&go_on).unwrap();
    let outcome = asterisk.reload_within("dialplan", EXTRA, Duration::from_secs(1));
    assert_failed(&outcome, &["killed after 1s", "sync.reload_timeout"]);
    // So does one that another reload keeps waiting.
    let outcome = asterisk.reload_within("moh", "xivo", Duration::from_secs(2));
    assert_failed(&outcome, &["already in progress", "sync.reload_timeout"]);
    asterisk.write("etc/extensions.conf", DIALPLAN);
    asterisk.write("go-on", "");
    assert_done(&asterisk.reload("dialplan", EXTRA));
}

fn other_commands(asterisk: &Asterisk) {
    assert_failed(
        &asterisk.reload("broken", EXTRA),
        &["no such command", "No such command 'dialplan relaod'", "module load pbx_config.so"],
    );
    assert_failed(&asterisk.reload("missing", EXTRA), &["No such module", "module load app_nosuch.so"]);
    assert_failed(&asterisk.reload("unknown", EXTRA), &["node.toml"]);
}

fn denied_commands_are_told(asterisk: &mut Asterisk) {
    asterisk.write("etc/cli_permissions.conf", "[general]\ndefault_perm=permit\n[root]\ndeny=moh reload\n");
    asterisk.stop();
    asterisk.run();
    let outcome = asterisk.reload("moh reload", "xivo");
    assert_failed(&outcome, &["cli_permissions.conf", "You don't have permissions to run 'moh reload'"]);
    fs::remove_file(asterisk.at("etc/cli_permissions.conf")).unwrap();
}

/// A class is not made while its directory is empty, and not when that has changed since.
fn empty_classes_are_told(asterisk: &mut Asterisk) {
    asterisk.stop();
    fs::create_dir(asterisk.at("moh/rock")).unwrap();
    let mut classes = fs::read_to_string(asterisk.at("etc/musiconhold.conf")).unwrap();
    classes += &format!("[rock]\nmode=files\ndirectory={}\n", asterisk.at("moh/rock").display());
    asterisk.write("etc/musiconhold.conf", &classes);
    asterisk.run();
    asterisk.write("moh/rock/first.wav", "x");
    assert_failed(&asterisk.reload("moh", "xivo"), &["xivo/rock", "etc/musiconhold.conf is newer; `touch`"]);
    asterisk.write("etc/musiconhold.conf", &format!("{classes}; touched\n"));
    assert_done(&asterisk.reload("moh", "xivo"));

    // Nor does a class go with its directory.
    fs::remove_dir_all(asterisk.at("moh/rock")).unwrap();
    assert_failed(&asterisk.reload("moh", "xivo"), &["moh/rock, which does not exist any more", "`touch`"]);
    asterisk.write("etc/musiconhold.conf", &format!("{classes}; touched again\n"));
    assert_done(&asterisk.reload("moh", "xivo"));
}

/// `No such command` is what an Asterisk says until the module is there.
#[test]
fn a_reload_during_the_start_of_asterisk_is_waited_for() {
    for version in [16, 22] {
        let mut asterisk = Asterisk::start(version);
        asterisk.stop();
        asterisk.write("slow", "#!/bin/sh\nsleep 2\n");
        fs::set_permissions(asterisk.at("slow"), fs::Permissions::from_mode(0o755)).unwrap();
        let slow = format!("{DIALPLAN}#exec {}\n", asterisk.at("slow").display());
        asterisk.write("etc/extensions.conf", &slow);
        let socket = asterisk.at("run/asterisk.ctl");
        thread::scope(|scope| {
            let (program, config) = (asterisk.program.clone(), asterisk.at("etc/asterisk.conf"));
            let mut child = Command::new(program)
                .args(["-f", "-C"])
                .arg(config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let reloads: Vec<_> = ["dialplan", "moh", "moh reload", "dialplan reload"]
                .into_iter()
                .map(|name| {
                    let (asterisk, socket) = (&asterisk, &socket);
                    scope.spawn(move || {
                        eventually("the socket", LIMIT, || socket.exists());
                        let root = if name.starts_with("moh") { "xivo" } else { EXTRA };
                        asterisk.reload(name, root)
                    })
                })
                .collect();
            let outcomes: Vec<ReloadOutcome> =
                reloads.into_iter().map(|reload| reload.join().unwrap()).collect();
            asterisk.output("core stop now");
            exit_code(&mut child);
            outcomes.iter().for_each(assert_done);
        });
    }
}
