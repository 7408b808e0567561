//! Reloads of a real Asterisk: private, with directories of its own, without ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

#[path = "support/wait.rs"]
mod wait;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use xds_sync::model::{RelPathBuf, ReloadOutcome, ReloadState};
use xds_sync::reload::{self, ReloadRequest};

use wait::{LIMIT, eventually, exit_code};

/// An Asterisk that runs as long as this value lives.
struct Asterisk {
    dir: tempfile::TempDir,
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
    fn start() -> Asterisk {
        let dir = tempfile::tempdir().unwrap();
        let asterisk = Asterisk { dir, running: None };
        for made in ["etc/extensions_extra.d", "moh/jazz", "lib", "run", "log", "spool"] {
            fs::create_dir_all(asterisk.at(made)).unwrap();
        }
        symlink("moh", asterisk.at("xivo")).unwrap();
        let base = asterisk.dir.path().display();
        let directories = [
            ("astetcdir", "etc"),
            ("astvarlibdir", "lib"),
            ("astdbdir", "lib"),
            ("astkeydir", "lib"),
            ("astagidir", "lib"),
            ("astspooldir", "spool"),
            ("astrundir", "run"),
            ("astlogdir", "log"),
        ];
        let directories: String =
            directories.iter().map(|(key, place)| format!("{key} => {base}/{place}\n")).collect();
        // What does not differ from the system's Asterisk: its modules and its documentation.
        asterisk.write("etc/asterisk.conf", &format!("[directories]\n{directories}"));
        asterisk.write(
            "etc/modules.conf",
            "[modules]\nautoload=no\nload = pbx_config.so\nload = format_wav.so\nload = res_musiconhold.so\n",
        );
        asterisk.write("etc/logger.conf", "[logfiles]\nmessages => warning,error\n");
        asterisk.write("etc/extensions.conf", DIALPLAN);
        asterisk.write("etc/extensions_extra.d/00-own.conf", "[own]\nexten => 1,1,NoOp()\n");
        asterisk.write("etc/musiconhold.conf", &format!("[jazz]\nmode=files\ndirectory={base}/moh/jazz\n"));
        asterisk.write("moh/jazz/first.wav", "RIFF");
        asterisk.run()
    }

    fn run(mut self) -> Asterisk {
        let config = self.at("etc/asterisk.conf");
        let spawned = Command::new("asterisk")
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
            self.asterisk("core waitfullybooted")
        });
        self
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            self.asterisk("core stop now");
            exit_code(&mut child);
        }
    }

    /// Whether an Asterisk answers to this.
    fn asterisk(&self, words: &str) -> bool {
        let mut command = Command::new("asterisk");
        command.arg("-C").arg(self.at("etc/asterisk.conf")).args(["-rx", words]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
    }

    /// Runs a reload after `files` were pushed below `root`.
    fn reload(&self, name: &str, root: &str, files: &[&str]) -> ReloadOutcome {
        let config = self.at("etc/asterisk.conf").display().to_string();
        let command = |name: &str, words: &str| {
            (name.to_owned(), ["asterisk", "-C", &config, "-rx", words].map(str::to_owned).to_vec())
        };
        let commands: BTreeMap<String, Vec<String>> = [
            command("dialplan", "dialplan reload"),
            command("moh", "moh reload"),
            command("broken", "dialplan relaod"),
            command("module", "module reload res_musiconhold.so"),
        ]
        .into();
        let files = files.iter().map(|file| RelPathBuf::new(file.as_bytes()).unwrap()).collect();
        let timeout = Duration::from_secs(120);
        let request = ReloadRequest { name: name.to_owned(), files: vec![(self.at(root), files)], timeout };
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
#[test]
fn reloads_of_a_real_asterisk() {
    let mut asterisk = Asterisk::start();
    contexts_are_found(&asterisk);
    lost_contexts_are_named(&asterisk);
    music_is_found(&asterisk);
    lost_music_is_named(&asterisk);
    other_commands(&asterisk);

    asterisk.stop();
    for name in ["dialplan", "moh", "module"] {
        let outcome = asterisk.reload(name, EXTRA, &[]);
        assert_failed(&outcome, &["Asterisk is not running", "Unable to connect to remote asterisk"]);
    }
}

fn contexts_are_found(asterisk: &Asterisk) {
    let headers = "[plain]\n[ spaced ]\n[q'uote] ; [comment]\n;--\n[hidden]\n--;\n[tmpl](!)\n[child](tmpl)\n\
                   [plain](+)\n[General]\n[globals]\n[not] (!)\n[a]b]\n   [indented]\r\n[semi\\;colon]\n[é]\n;--- [x]\n";
    asterisk.write(&format!("{EXTRA}/10-headers.conf"), headers);
    asterisk.write(&format!("{EXTRA}/20-long"), &format!("[{}]\nexten => 1,1,NoOp()\n", "x".repeat(100)));
    fs::create_dir(asterisk.at(&format!("{EXTRA}/sub"))).unwrap();
    asterisk.write(&format!("{EXTRA}/sub/x.conf"), "[below]\n");
    asterisk.write(&format!("{EXTRA}/.hidden.conf"), "[hidden-file]\n");
    let pushed = [".hidden.conf", "10-headers.conf", "20-long", "sub/x.conf"];
    assert_done(&asterisk.reload("dialplan", EXTRA, &pushed));
}

fn lost_contexts_are_named(asterisk: &Asterisk) {
    // A file of the node's own takes those after it down, and Asterisk says "Dialplan reloaded.".
    asterisk.write(&format!("{EXTRA}/15-own-bad.conf"), "[kept]\nexten => 1,1,NoOp()\n[open\n");
    asterisk.write(&format!("{EXTRA}/30-pushed.conf"), "[lost]\nexten => 1,1,NoOp()\n");
    let pushed = ["10-headers.conf", "30-pushed.conf"];
    let outcome = asterisk.reload("dialplan", EXTRA, &pushed);
    assert_failed(
        &outcome,
        &["contexts are missing in Asterisk: lost;", "30-pushed.conf or a file before it"],
    );

    fs::remove_file(asterisk.at(&format!("{EXTRA}/15-own-bad.conf"))).unwrap();
    assert_done(&asterisk.reload("dialplan", EXTRA, &pushed));
}

fn music_is_found(asterisk: &Asterisk) {
    let names =
        ["new.wav", "new.gsm", "two words.mp3", "line\nbreak.wav", "readme.txt", "LICENSE", "x.y", ".z.wav"];
    for name in names {
        asterisk.write(&format!("moh/jazz/{name}"), "x");
    }
    let pushed: Vec<String> = names.iter().map(|name| format!("jazz/{name}")).collect();
    let pushed: Vec<&str> = pushed.iter().map(String::as_str).collect();
    assert_done(&asterisk.reload("moh", "xivo", &pushed));
    assert_done(&asterisk.reload("moh", "moh", &pushed));
}

fn lost_music_is_named(asterisk: &Asterisk) {
    asterisk.write("moh/jazz/later.wav", "x");
    symlink("/nowhere", asterisk.at("moh/jazz/dangling.wav")).unwrap();
    let outcome = asterisk.reload("moh", "xivo", &["jazz/first.wav", "jazz/later.wav"]);
    assert_failed(&outcome, &["music on hold is missing in Asterisk: jazz/later.wav;"]);

    fs::remove_file(asterisk.at("moh/jazz/dangling.wav")).unwrap();
    assert_done(&asterisk.reload("moh", "xivo", &["jazz/first.wav", "jazz/later.wav"]));
}

fn other_commands(asterisk: &Asterisk) {
    assert_done(&asterisk.reload("module", EXTRA, &[]));
    assert_failed(
        &asterisk.reload("broken", EXTRA, &[]),
        &["no such command", "No such command 'dialplan relaod'"],
    );
    assert_failed(&asterisk.reload("unknown", EXTRA, &[]), &["node.toml"]);
}
