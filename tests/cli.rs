//! The program as its callers see it: arguments, output and exit codes. Nothing here leaves its own
//! temporary directory or reaches a network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code, unreachable_pub)]

#[path = "support/wait.rs"]
mod wait;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

use wait::{LIMIT, eventually, exit_code};

/// A home, a configuration and a state directory of its own.
struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    fn new() -> Sandbox {
        let sandbox = Sandbox { dir: tempfile::tempdir().unwrap() };
        let state = sandbox.path("state");
        sandbox.configure(&format!("[sync]\nstate_dir = {:?}\n", state.to_str().unwrap()));
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("config.toml"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_as(env!("CARGO_BIN_EXE_xds-sync").into(), args)
    }

    fn command_as(&self, program: PathBuf, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDS_SYNC_CONFIG", self.path("config.toml"))
            .args(args);
        command
    }

    fn write_status(&self, text: &str) {
        let state = self.path("state");
        let _ = fs::DirBuilder::new().mode(0o700).create(&state);
        fs::write(state.join("status.json"), text).unwrap();
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }
}

/// What a run for one node leaves behind that ended with this code for it.
fn status(node: &str, code: u8) -> String {
    let state = if code == 0 { "ok" } else { "unreachable" };
    format!(
        r#"{{"run":"01R","ended":"2026-01-02T03:04:05Z","exit_code":0,"nodes":[{{"name":"{node}",
        "address":"10.0.0.11","state":"{state}","exit_code":{code},"error":null,
        "since":"2026-01-02T03:04:05Z","last_success":null,"directories":[],"reloads":[],"owed":[]}}],
        "halted":[],"problems":[]}}"#
    )
}

#[derive(Debug)]
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn of(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Every command as it is typed, those of commands included.
fn commands(command: &clap::Command, typed: &[String]) -> Vec<Vec<String>> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let below = below.flat_map(|below| commands(below, &[typed, &[below.get_name().to_owned()]].concat()));
    std::iter::once(typed.to_vec()).chain(below).collect()
}

#[test]
fn every_command_has_help_with_examples() {
    let sandbox = Sandbox::new();
    let commands = commands(&xds_sync::cli::command(), &[]);
    for known in ["sync", "nodes add", "conflicts resolve", "config show"] {
        assert!(commands.iter().any(|typed| typed.join(" ") == known), "{known}: {commands:?}");
    }
    for command in commands {
        let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let run = sandbox.run(&args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{command:?}");
        assert!(run.stdout.contains("Usage: xds-sync"), "{command:?}: {}", run.stdout);
        assert!(run.stdout.contains("Examples"), "{command:?}: {}", run.stdout);
    }
}

/// What help prints on a terminal of this width.
fn help_at(sandbox: &Sandbox, command: &[String], width: &str) -> String {
    let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let run = Run::of(sandbox.command(&args).env("COLUMNS", width).output().unwrap());
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

#[test]
fn help_fits_80_columns_and_is_not_torn_at_40() {
    let sandbox = Sandbox::new();
    for command in commands(&xds_sync::cli::command(), &[]) {
        let wide = help_at(&sandbox, &command, "200");
        let longest = wide.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{command:?} is {longest:?} columns wide:\n{wide}");
        // What was written in lines stays in these lines: only prose is wrapped.
        let narrow = help_at(&sandbox, &command, "40");
        let is_code = |line: &&str| {
            let (code, words) = line.trim_start().split_once("  ").unwrap_or_default();
            line.starts_with(' ') && code.parse::<u8>().is_ok() && !words.is_empty()
        };
        for line in wide.lines().filter(is_code) {
            assert!(narrow.lines().any(|narrow| narrow == line), "{command:?}: {line:?} is torn:\n{narrow}");
        }
    }
}

#[test]
fn what_a_command_has_of_its_own_stands_first_and_what_does_nothing_nowhere() {
    let sandbox = Sandbox::new();
    for command in commands(&xds_sync::cli::command(), &[]) {
        let help = help_at(&sandbox, &command, "80");
        let (own, global) = help.split_once("\nGlobal options:\n").unwrap_or_else(|| panic!("{help}"));
        for option in ["--config", "--verbose", "--quiet", "--color", "--help", "--version"] {
            assert!(!own.contains(&format!("{option}\n")) && !own.contains(&format!("{option} <")), "{help}");
            let reads_config =
                !matches!(&*command.join(" "), "join" | "leave" | "follow" | "agent" | "completions");
            assert_eq!(global.contains(option), option != "--config" || reads_config, "{command:?}: {help}");
        }
    }
}

/// Every exit code of a run that the reference knows is in the help of `sync`.
#[test]
fn help_has_all_exit_codes() {
    let reference = fs::read_to_string("docs/reference.md").unwrap();
    let table =
        reference.split("\n## Exit codes\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let codes: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).collect();
    let codes: Vec<&str> = codes.into_iter().filter(|code| code.parse::<u8>().is_ok()).collect();
    assert!(codes.len() > 12, "{codes:?}");
    let help = help_at(&Sandbox::new(), &["sync".to_owned()], "80");
    for code in codes {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code}: {help}"
        );
    }
}

#[test]
fn usage_errors_are_exit_1_with_nothing_on_stdout() {
    let sandbox = Sandbox::new();
    for args in [
        &[][..],
        &["frobnicate"],
        &["sync", "--frobnicate"],
        &["sync", "surplus"],
        &["sync", "-i", "-n"],
        &["sync", "--exit-code"],
        &["sync", "--node"],
        &["sync", "--node", "nowhere"],
        &["sync", "--dir", "nowhere"],
        &["sync", "--json", "--dir", "nowhere"],
        &["status", "-q", "-v"],
        &["nodes"],
        &["nodes", "check", "nowhere"],
        &["config"],
        &["completions", "cmd"],
    ] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}: {run:?}");
        assert_ne!(run.stderr, "", "{args:?}");
    }
}

#[test]
fn an_unknown_directory_is_told_with_the_known_ones() {
    let run = Sandbox::new().run(&["sync", "--dir", "mohh"]);
    assert_eq!(run.stderr, "error: unknown directory: mohh; known: dialplan, moh, sounds, recordings\n");
}

#[test]
fn version_is_told_by_every_command() {
    let sandbox = Sandbox::new();
    for args in [&["--version"][..], &["sync", "--version"]] {
        let run = sandbox.run(args);
        assert_eq!(run.code, 0);
        let version = concat!(" ", env!("CARGO_PKG_VERSION"), " (");
        assert!(run.stdout.contains(version) && run.stdout.ends_with("protocol 1)\n"), "{run:?}");
    }
}

#[test]
fn under_the_old_name_it_is_sync() {
    let sandbox = Sandbox::new();
    let alias = sandbox.path("xivo-xds-sync");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_xds-sync"), &alias).unwrap();
    let run = |args| Run::of(sandbox.command_as(alias.clone(), args).output().unwrap());
    let help = run(&["--help"]);
    assert!(help.stdout.contains("--dry-run"), "{help:?}");
    let refused = run(&["-n", "--dir", "nowhere"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("unknown directory: nowhere"), "{refused:?}");
}

#[test]
fn completions_are_made_for_every_shell() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = sandbox.run(&["completions", shell]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.contains("XDS_SYNC_COMPLETE"), "{shell}");
    }
}

/// What a shell is offered for the last of these words.
fn offered(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let mut command = sandbox.command(&["--", "xds-sync"]);
    command.args(words).env("XDS_SYNC_COMPLETE", "fish");
    let run = Run::of(command.output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}");
    run.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn names_of_nodes_and_directories_are_completed() {
    let sandbox = Sandbox::new();
    sandbox.configure(
        "[[node]]\nname = \"mds1\"\naddress = \"10.0.0.11\"\n[[node]]\nname = \"paris\"\naddress = \"10.0.0.12\"\n",
    );
    for (words, expected) in [
        (&["sync", "--node", ""][..], &["mds1", "paris"][..]),
        (&["sync", "--node", "mds1", "--dir", "m"], &["moh"]),
        (&["sync", "--node", "p"], &["paris"]),
        (&["nodes", "check", "m"], &["mds1"]),
        (&["nodes", "remove", "m"], &["mds1"]),
        (&["restore", "s"], &["sounds"]),
        (&["restore", "moh", "a.wav", "--node", "m"], &["main", "mds1"]),
        (&["history", "d"], &["dialplan"]),
        (&["conflicts", "resolve", "recordings", "a.wav", "--keep", "m"], &["main", "mds1"]),
        (&["init", "--adopt", "r"], &["recordings"]),
        (&["sync", "--accept-d"], &["--accept-deletes"]),
        (&["conf"], &["conflicts", "config"]),
    ] {
        assert_eq!(offered(&sandbox, words), expected, "{words:?}");
    }
    // A mistake in the configuration is no matter for the middle of a command line.
    sandbox.configure("[sync]\nparalel = 8\n");
    assert_eq!(offered(&sandbox, &["sync", "--node", ""]), [""; 0]);
    // Who may set variables does not keep the agent from its work.
    let agent =
        sandbox.command(&["agent"]).env("XDS_SYNC_COMPLETE", "bash").write_stdin("").output().unwrap();
    assert!(agent.stdout.starts_with(b"\xffxds-sync"), "{agent:?}");
}

#[test]
fn a_mistake_in_the_configuration_is_exit_1_everywhere() {
    let sandbox = Sandbox::new();
    sandbox.configure("[sync]\nparalel = 8\n");
    for args in
        [&["sync"][..], &["sync", "--json"], &["sync", "-n"], &["nodes", "list"], &["init"], &["conflicts"]]
    {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}: {run:?}");
        assert!(run.stderr.contains("config.toml:2: "), "{args:?}: {run:?}");
    }
    assert!(!sandbox.path("state").exists(), "nothing is touched");
    assert!(!sandbox.path(".ssh").exists(), "nothing is touched");
}

#[test]
fn a_mistake_in_the_configuration_is_no_reason_not_to_look() {
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    sandbox.write_status(&status("mds1", 0));
    sandbox.configure(&format!("[sync]\nstate_dir = {:?}\nparalel = 8\n", state.to_str().unwrap()));
    let run = sandbox.run(&["status"]);
    assert_eq!(run.code, 1, "no run begins");
    assert!(run.stdout.starts_with("mds1  in step since "), "{run:?}");
    assert!(run.stderr.contains("config.toml:3: ") && run.stderr.contains("no run begins until"), "{run:?}");
    let run = sandbox.run(&["history"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "no run on record did anything of this kind\n"));
    assert!(run.stderr.contains("config.toml:3: "), "{run:?}");
}

#[test]
fn a_damaged_status_is_told_with_its_path_and_what_to_do() {
    let sandbox = Sandbox::new();
    sandbox.write_status("{");
    let run = sandbox.run(&["status"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    let path = sandbox.path("state/status.json");
    assert!(
        run.stderr.starts_with(&format!("error: {} is damaged; the next run writes it anew", path.display()))
    );
}

#[test]
fn the_status_knows_which_nodes_there_are_and_their_order() {
    let sandbox = Sandbox::new();
    let one = |name, code| {
        let text = status(name, code);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["nodes"][0].clone()
    };
    let mut all: serde_json::Value = serde_json::from_str(&status("gone", 41)).unwrap();
    all["nodes"] = serde_json::json!([one("gone", 41), one("mds2", 0), one("mds1", 41)]);
    let state = sandbox.path("state");
    let nodes = |names: &[&str]| {
        let nodes: String = names
            .iter()
            .enumerate()
            .map(|(at, name)| format!("[[node]]\nname = {name:?}\naddress = \"10.0.0.{}\"\n", at + 1))
            .collect();
        sandbox.configure(&format!("[sync]\nstate_dir = {:?}\n{nodes}", state.to_str().unwrap()));
    };
    sandbox.write_status(&all.to_string());
    nodes(&["mds1", "mds2"]);
    let run = sandbox.run(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (run.code, &json["status_code"]),
        (40, &40.into()),
        "mds1 is away, whatever the last run was for"
    );
    let names: Vec<&serde_json::Value> =
        json["nodes"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["mds1", "mds2"]);
    assert_eq!(sandbox.run(&["status", "-q"]).code, 40);
    nodes(&["mds2"]);
    assert_eq!(sandbox.run(&["status"]).code, 0);
}

#[test]
fn a_group_may_read_how_runs_went_and_nothing_else() {
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    let root = sandbox.path("moh");
    fs::create_dir(&root).unwrap();
    let config = |group: &str| {
        sandbox.configure(&format!(
            "[sync]\nstate_dir = {:?}\nstatus_group = {group:?}\n[[directory]]\nname = \"moh\"\npath = {:?}\n\
             [[node]]\nname = \"mds1\"\naddress = \"127.0.0.1\"\nport = 1\n",
            state.to_str().unwrap(),
            root.to_str().unwrap()
        ));
    };
    config("nogroup");
    // Nobody answers, and there is a status of that.
    sandbox.run(&["sync"]);
    let as_monitor = |args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(env!("CARGO_BIN_EXE_xds-sync"));
        command.env_clear().env("HOME", "/").env("XDS_SYNC_CONFIG", sandbox.path("config.toml")).args(args);
        Run::of(command.output().unwrap())
    };
    fs::set_permissions(sandbox.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = as_monitor(&["status", "--json"]);
    let json: serde_json::Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|why| panic!("{why}: {run:?}"));
    assert!(json["run"].is_string(), "{run:?}");
    let run = as_monitor(&["history"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("history.db") && run.stderr.contains("run it as root"), "{run:?}");
    let mode = |name: &str| {
        let metadata = fs::metadata(state.join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    };
    assert_eq!(
        (mode(""), mode("status.json"), mode("history.db"), mode("ledger.json")),
        (0o710, 0o640, 0o600, 0o600)
    );

    config("no-such-group");
    assert!(sandbox.run(&["sync"]).stderr.contains("no such group"));
}

#[test]
fn a_media_server_knows_whose_it_is_and_what_main_did_there_last() {
    let sandbox = Sandbox::new();
    let node_file = sandbox.path("node.toml");
    let accepted = sandbox.path("moh");
    fs::create_dir(&accepted).unwrap();
    fs::write(&node_file, format!("roots = [{accepted:?}]\nstate_dir = {:?}\n", sandbox.path("node")))
        .unwrap();
    let status = || {
        let mut command = sandbox.command(&["status"]);
        Run::of(command.env("XDS_SYNC_NODE_CONFIG", &node_file).output().unwrap())
    };
    assert_eq!(status().stdout, "no run yet: xds-sync sync\n");
    fs::create_dir(sandbox.path("node")).unwrap();
    let sealed = |content: serde_json::Value| {
        let checksum = blake3::hash(content.to_string().as_bytes()).to_hex().to_string();
        serde_json::json!({"version": 1, "checksum": checksum, "content": content}).to_string()
    };
    let visit = serde_json::json!({"run": "01KDYC00000000000000000000", "name": "xivo", "whole": true,
        "changes": {"moh": {"create": 2, "delete": 1}}, "reloads": {"moh": "done"}});
    fs::write(sandbox.path("node/visit.json"), sealed(visit)).unwrap();
    let run = status();
    assert_eq!(run.code, 0, "{run:?}");
    for expected in
        ["a media server of xivo", "last run of xivo 2", "moh: create 2, delete 1", "moh reload done"]
    {
        assert!(run.stdout.contains(expected), "{expected}: {run:?}");
    }
    assert!(!run.stdout.contains("no run yet"), "{run:?}");
}

#[test]
fn config_check_prints_every_mistake() {
    let sandbox = Sandbox::new();
    sandbox.configure("[sync]\nparalel = 8\n[[directory]]\nname = \"a\"\npath = \"relative\"\n");
    let run = sandbox.run(&["config", "check"]);
    assert_eq!(run.code, 1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    assert!(lines[0].contains("config.toml:2: ") && lines[0].contains("paralel"), "{run:?}");
    assert!(lines[1].contains("config.toml:5: "), "{run:?}");
}

#[test]
fn config_show_tells_where_each_value_is_from() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(&["config", "check"]).code, 0);
    let mut show = sandbox.command(&["config", "show"]);
    let run = Run::of(show.env("XDS_SYNC_SYNC_TIMEOUT", "10s").output().unwrap());
    let line = |key: &str| run.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    assert!(line("sync.state_dir").ends_with("config.toml:2"), "{run:?}");
    assert_eq!(line("sync.timeout"), "sync.timeout = \"10s\"  # environment");
    assert_eq!(line("sync.parallel"), "sync.parallel = 8  # default");
}

#[test]
fn before_the_first_run_the_status_says_so() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["status"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "no run yet: xds-sync sync\n"), "{run:?}");
    let run = sandbox.run(&["status", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (run.code, &value["run"], &value["nodes"]),
        (0, &serde_json::Value::Null, &serde_json::json!([]))
    );
}

#[test]
fn the_status_is_what_runs_left_and_its_exit_code_that_of_what_it_shows() {
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    sandbox.configure(&format!(
        "[sync]\nstate_dir = {:?}\n[[node]]\nname = \"mds1\"\naddress = \"10.0.0.11\"\n",
        state.to_str().unwrap()
    ));
    fs::create_dir(&state).unwrap();
    let status = r#"{"run":"01R","ended":"2026-01-02T03:04:05Z","exit_code":40,"nodes":[{"name":"mds1",
        "address":"10.0.0.11","state":"unreachable","exit_code":41,"error":"No route to host",
        "since":"2026-01-02T03:04:05Z","last_success":null,"directories":[],"reloads":[],"owed":[]}],
        "halted":[],"problems":[]}"#;
    fs::write(sandbox.path("state/status.json"), status).unwrap();
    let run = sandbox.run(&["status"]);
    assert_eq!(run.code, 41, "all nodes are away: {run:?}");
    assert!(run.stdout.starts_with("mds1  unreachable since 2026-01-02 03:04:05 ("), "{run:?}");
    assert!(!run.stdout.contains('\u{1b}'), "no colours in a pipe");
    let coloured = sandbox.run(&["status", "--color", "always"]);
    assert!(coloured.stdout.contains('\u{1b}'), "{coloured:?}");
    let json = sandbox.run(&["status", "--json"]);
    assert_eq!((json.code, json.stdout.matches('\n').count()), (41, 1));
    let in_paris = Run::of(sandbox.command(&["status"]).env("TZ", "CET-1").output().unwrap());
    assert!(in_paris.stdout.starts_with("mds1  unreachable since 2026-01-02 04:04:05 ("), "{in_paris:?}");
}

#[test]
fn nodes_list_tells_who_is_known_and_from_where() {
    let sandbox = Sandbox::new();
    sandbox.configure("[[node]]\nname = \"mds1\"\naddress = \"10.0.0.11\"\nlabels = [\"paris\"]\n");
    let run = sandbox.run(&["nodes", "list"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.starts_with("mds1  10.0.0.11  root  paris  "), "{run:?}");
    let value: serde_json::Value =
        serde_json::from_str(&sandbox.run(&["nodes", "list", "--json"]).stdout).unwrap();
    let node = &value["nodes"][0];
    assert_eq!(node["name"], "mds1");
    assert_eq!(node["labels"], serde_json::json!(["paris"]));
    assert_eq!(node["source"], "config");
}

#[test]
fn nodes_are_found_and_a_source_that_fails_is_told() {
    let sandbox = Sandbox::new();
    let list = sandbox.path("workers");
    sandbox.configure(&format!(
        "[main]\nname = \"xivo\"\n[sync]\nstate_dir = {:?}\n[discovery]\nfile = {list:?}\n\
         [[node]]\nname = \"mds1\"\naddress = \"10.0.0.11\"\n",
        sandbox.path("state")
    ));
    fs::write(&list, "xds@10.0.0.12\nroot@10.0.0.11\nroot@xivo\nnot a host\n").unwrap();
    let run = sandbox.run(&["nodes", "list"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.stdout, "mds1       10.0.0.11  root    config\n10.0.0.12  10.0.0.12  xds     file\n");
    assert!(run.stderr.contains("workers): line 4: expected [user@]host[:path]"), "{run:?}");
    let check = sandbox.run(&["config", "check"]);
    assert!(check.stderr.contains("nodes: 1, and those that 'xds-sync nodes list' finds"), "{check:?}");
    let run = sandbox.run(&["sync", "--node", "10.0.0.13"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("unknown node: 10.0.0.13; known: mds1, 10.0.0.12"), "{run:?}");
    let run = sandbox.run(&["nodes", "remove", "10.0.0.12"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("nodes that are found are removed where they are found"), "{run:?}");

    fs::remove_file(&list).unwrap();
    let run = sandbox.run(&["nodes", "list", "--json"]);
    assert_eq!(run.code, 40, "{run:?}");
    assert!(run.stderr.starts_with("error: discovery.file ("), "{run:?}");
    // Only who holds the lock writes down what was found: the run above did.
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["nodes"][1]["name"], "10.0.0.12");
    assert!(value["nodes"][1]["last_good"].is_string(), "{value}");
}

#[test]
fn nodes_are_added_imported_and_removed_and_a_mistake_writes_nothing() {
    let sandbox = Sandbox::new();
    let file = || fs::read_to_string(sandbox.path("conf.d/nodes.toml")).unwrap_or_default();
    let listed = || sandbox.run(&["nodes", "list"]).stdout;
    for _ in 0..2 {
        let run = sandbox.run(&["nodes", "add", "mds1", "10.0.0.11", "--label", "paris"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{run:?}");
    }
    assert!(listed().contains("mds1  10.0.0.11  root  paris"), "{}", listed());

    fs::write(sandbox.path("workers"), "xds@10.0.0.12:/srv/moh\nroot@10.0.0.11:/opt/wso2\n").unwrap();
    let workers = sandbox.path("workers");
    assert_eq!(sandbox.run(&["nodes", "import", workers.to_str().unwrap()]).code, 0);
    assert!(listed().contains("10.0.0.12  10.0.0.12  xds"), "{}", listed());
    assert!(file().contains("paths = { moh = \"/srv/moh\" }"), "{}", file());

    let before = file();
    for bad in [
        &["nodes", "add", "mds2", "10.0.0.11"][..],
        &["nodes", "add", "mds1", "10.0.0.99"],
        &["nodes", "add", "../x", "10.0.0.99"],
        &["nodes", "add", "x", "-oProxyCommand=x"],
        &["nodes", "remove", "mds9"],
    ] {
        let run = sandbox.run(bad);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{bad:?}: {run:?}");
        assert!(!run.stderr.is_empty(), "{bad:?}");
        assert_eq!(file(), before, "{bad:?}");
    }
    assert_eq!(sandbox.run(&["nodes", "remove", "mds1"]).code, 0);
    assert!(!listed().contains("mds1"));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let sandbox = Sandbox::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xds-sync"));
    command.env_clear().env("HOME", sandbox.dir.path()).args(["completions", "bash"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Holds the lock as another run does.
fn hold_lock(sandbox: &Sandbox) -> fs::File {
    let state = sandbox.path("state");
    fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    let mut lock = fs::File::create(state.join("lock")).unwrap();
    lock.lock().unwrap();
    write!(lock, "4711").unwrap();
    lock
}

#[test]
fn while_another_run_is_going_on_it_is_exit_75() {
    let sandbox = Sandbox::new();
    let _lock = hold_lock(&sandbox);
    for args in [&["sync"][..], &["sync", "--json"], &["sync", "-n", "--json"]] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (75, ""), "{args:?}: {run:?}");
        assert!(run.stderr.contains("another run is going on: process 4711, since 2"), "{run:?}");
    }
}

#[test]
fn whoever_meets_another_run_learns_how_to_wait_and_the_cron_job_says_nothing() {
    let sandbox = Sandbox::new();
    let _lock = hold_lock(&sandbox);
    let run = sandbox.run(&["sync", "-q"]);
    assert!(run.stderr.contains("; --wait waits"), "{run:?}");
    let run = sandbox.run(&["sync", "--quiet", "--cron"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (75, "", ""));
}

#[test]
fn no_node_at_all_is_no_success() {
    let sandbox = Sandbox::new();
    for args in [&["sync"][..], &["sync", "-n"], &["sync", "--json"], &["nodes", "check"]] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}: {run:?}");
        assert!(run.stderr.contains("no node is configured or found: add a [[node]]"), "{run:?}");
    }
    assert!(!sandbox.path("state/last-success").exists());
}

#[test]
fn a_signal_ends_the_wait_for_another_run_at_once() {
    let sandbox = Sandbox::new();
    let _lock = hold_lock(&sandbox);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_xds-sync"))
        .env_clear()
        .env("HOME", sandbox.dir.path())
        .env("XDS_SYNC_CONFIG", sandbox.path("config.toml"))
        .args(["sync", "--wait"])
        .spawn()
        .unwrap();
    let term = rustix::process::Signal::TERM;
    let catches_term = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() >> (term.as_raw() - 1) & 1 == 1
    };
    eventually("the wait for the lock to begin", LIMIT, catches_term);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, term).unwrap();
    assert_eq!(exit_code(&mut child), Some(20));
}

#[test]
fn a_main_that_cannot_be_joined_changes_nothing() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path(".ssh")).unwrap();
    let keys = sandbox.path(".ssh/authorized_keys");
    fs::write(&keys, "# mine\n").unwrap();
    let wrong = format!("SHA256:{}", "A".repeat(43));
    for (args, expected) in [
        (&["join", "http://main"][..], "not https"),
        (&["join", "main/key"], "no HOST"),
        (&["join", "localhost:1", "--fingerprint", "MD5:00"], "no fingerprint"),
        (&["join", "localhost:1", "--fingerprint", &wrong], "https://localhost:1/ssh-key/rsync_xds.pub: "),
        (&["join", "localhost:1", "--insecure"], "--insecure asks on a terminal"),
        (&["join", "localhost:1", "--insecure", "--fingerprint", &wrong], "cannot be used with"),
        (&["join", "localhost:1", "--cacert", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
    ] {
        let node_file = sandbox.path("node.toml");
        let run = Run::of(sandbox.command(args).env("XDS_SYNC_NODE_CONFIG", &node_file).output().unwrap());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}: {run:?}");
        assert!(run.stderr.contains(expected), "{args:?}: {run:?}");
        assert_eq!(fs::read(&keys).unwrap(), b"# mine\n");
        assert!(!node_file.exists(), "{args:?}");
    }
}

#[test]
fn leave_takes_back_what_join_wrote_and_forgets_main() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path(".ssh")).unwrap();
    let keys = sandbox.path(".ssh/authorized_keys");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT";
    let mine = format!("# mine\n{key} me");
    fs::write(&keys, format!("{key} xds-sync from old\n{key} xds-sync from main:8443\n{mine}")).unwrap();
    let node_file = sandbox.path("node.toml");
    fs::write(&node_file, format!("state_dir = {:?}\n", sandbox.path("node"))).unwrap();
    fs::create_dir(sandbox.path("node")).unwrap();
    fs::write(sandbox.path("node/main.json"), "{}").unwrap();
    let leave = |args: &[&str]| {
        let mut command = sandbox.command(&["leave"]);
        Run::of(command.args(args).env("XDS_SYNC_NODE_CONFIG", &node_file).output().unwrap())
    };
    let run = leave(&[]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("old, main:8443"), "{run:?}");
    assert_eq!(leave(&["old"]).code, 0);
    assert!(!sandbox.path("node/main.json").exists());
    assert_eq!(leave(&[]).code, 0);
    assert_eq!(fs::read_to_string(&keys).unwrap(), mine);
    let again = leave(&[]);
    assert_eq!(again.code, 0);
    assert!(again.stdout.contains("no Main was let in"), "{again:?}");
    assert!(node_file.exists());
}

/// A home in which `.ssh` is no directory: whatever is to be written below it cannot be.
fn without_ssh_directory() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path(".ssh"), "").unwrap();
    sandbox
}

#[test]
fn a_step_of_init_that_fails_is_exit_23_and_named() {
    let sandbox = without_ssh_directory();
    let run = sandbox.run(&["init", "--publish", "none"]);
    assert_eq!(run.code, 23, "{run:?}");
    assert!(run.stderr.contains("key pair") && run.stderr.contains("Not a directory"), "{run:?}");
}

#[test]
fn a_step_of_join_that_fails_is_exit_23_and_what_was_done_before_it_is_printed() {
    let sandbox = without_ssh_directory();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT";
    fs::write(sandbox.path("key.pub"), key).unwrap();
    let mut command = sandbox.command(&["join", "main", "--key"]);
    command.arg(sandbox.path("key.pub")).env("XDS_SYNC_NODE_CONFIG", sandbox.path("node.toml"));
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 23, "{run:?}");
    assert!(run.stdout.contains("accepts") && sandbox.path("node.toml").exists(), "{run:?}");
    assert!(run.stderr.contains("login") && run.stderr.contains("authorized_keys"), "{run:?}");
}

#[test]
fn a_step_of_leave_that_fails_is_exit_23_and_what_was_done_before_it_is_printed() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path(".ssh")).unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT";
    fs::write(sandbox.path(".ssh/authorized_keys"), format!("{key} xds-sync from main\n")).unwrap();
    let node_file = sandbox.path("node.toml");
    fs::write(&node_file, format!("state_dir = {:?}\n", sandbox.path("node"))).unwrap();
    // What cannot be removed as a file.
    fs::create_dir_all(sandbox.path("node/main.json/x")).unwrap();
    let mut command = sandbox.command(&["leave"]);
    let run = Run::of(command.env("XDS_SYNC_NODE_CONFIG", &node_file).output().unwrap());
    assert_eq!(run.code, 23, "{run:?}");
    assert!(run.stdout.contains("login     removed"), "{run:?}");
    assert!(run.stderr.contains("memory"), "{run:?}");

    // A file that says nothing is found out before anything is changed.
    fs::write(&node_file, "state_dir = 7\n").unwrap();
    fs::write(sandbox.path(".ssh/authorized_keys"), format!("{key} xds-sync from main\n")).unwrap();
    let mut command = sandbox.command(&["leave"]);
    let run = Run::of(command.env("XDS_SYNC_NODE_CONFIG", &node_file).output().unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(fs::read_to_string(sandbox.path(".ssh/authorized_keys")).unwrap().contains("xds-sync from main"));
}

#[test]
fn a_node_that_cannot_be_written_down_is_exit_23() {
    let sandbox = Sandbox::new();
    // No file can be made beside this configuration, by no user.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xds-sync"));
    command
        .env_clear()
        .env("HOME", sandbox.dir.path())
        .stdin(fs::File::open(sandbox.path("config.toml")).unwrap());
    command.args(["--config", "/proc/self/fd/0", "nodes", "add", "mds1", "10.0.0.11"]);
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 23, "{run:?}");
    assert!(run.stderr.contains("conf.d"), "{run:?}");
}

#[test]
fn of_several_nodes_added_at_the_same_time_none_is_lost() {
    let sandbox = Sandbox::new();
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let (name, address) = (format!("n{number}"), format!("10.0.9.{number}"));
            let sandbox = &sandbox;
            scope.spawn(move || assert_eq!(sandbox.run(&["nodes", "add", &name, &address]).code, 0));
        }
    });
    let listed = sandbox.run(&["nodes", "list"]).stdout;
    (1..=8).for_each(|number| assert!(listed.contains(&format!("10.0.9.{number}")), "{listed}"));
}

#[test]
fn the_hub_says_where_it_is_and_ends_on_a_signal() {
    use std::io::{BufRead as _, BufReader};
    let sandbox = Sandbox::new();
    let token = sandbox.path("token");
    fs::write(&token, "correct-horse-battery-staple").unwrap();
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_xds-sync"))
        .env_clear()
        .env("HOME", sandbox.dir.path())
        .env("XDS_SYNC_CONFIG", sandbox.path("config.toml"))
        .env("XDS_SYNC_HUB_TOKEN_FILE", &token)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let unusable = next();
    assert!(unusable.contains("hub.token_file: ") && unusable.contains("chmod 600"), "{unusable}");
    let line = next();
    let address = line.strip_prefix("serving https://").and_then(|rest| rest.split('/').next()).unwrap();
    let page = next();
    assert!(page.contains(address) && page.contains("/metrics") && page.contains("not without"), "{page}");
    assert!(lines.next().unwrap().unwrap().contains("--publish hub"));
    let taken = sandbox.run(&["serve", "--listen", address]);
    assert_eq!(taken.code, 1);
    assert!(taken.stderr.contains("another program listens on"), "{taken:?}");
    // Somebody who says nothing does not hold it up.
    let _silent = std::net::TcpStream::connect(address).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(exit_code(&mut child), Some(0));
}
