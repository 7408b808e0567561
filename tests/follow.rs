//! `xds-sync follow` as systemd, cron and administrators see it, against a store in a directory: its exit codes, its report, its
//! start, and what is there whenever it is killed. What single passes decide is tested beside the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code, unreachable_pub)]

#[path = "support/publisher.rs"]
mod publisher;
#[path = "support/wait.rs"]
mod wait;

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use xds_sync::fault::Point;

use publisher::{MTIME, Publisher};
use wait::{LIMIT, eventually, exit_code};

/// A node with a configuration of its own.
struct Node(Publisher);

impl Node {
    fn new() -> Node {
        let node = Node(Publisher::new());
        node.configure("interval = '100ms'\n", "");
        node
    }

    fn configure(&self, follow: &str, startup: &str) {
        self.configure_at(&format!("url = 'file://{}'", self.0.path("store").display()), follow, startup);
    }

    fn configure_at(&self, store: &str, follow: &str, startup: &str) {
        let path = |name: &str| self.0.path(name).display().to_string();
        let text = format!(
            "roots = ['{}', '{}']\nstate_dir = '{}'\n[reload]\nmoh = ['sh', '-c', 'echo reloaded >>{}']\n\
             [store]\n{store}\n[follow]\nname = 'mds1'\nmain_key = '{}'\nidentity = '{}'\n{follow}\n{startup}",
            path("moh"),
            path("rec"),
            path("state"),
            path("reloads"),
            path("main.pub"),
            path("node"),
        );
        fs::write(self.0.path("node.toml"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.0.dir.path())
            .env("XDS_SYNC_NODE_CONFIG", self.0.path("node.toml"))
            .arg("follow")
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `--once --json`, which is to end with this exit code.
    fn once(&self, code: i32) -> Value {
        let output = self.run(&["--once", "--json"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn standing(&self) -> Value {
        fs::read(self.0.path("state/follow.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    fn state(&self) -> String {
        self.standing()["state"].as_str().unwrap_or_default().to_owned()
    }
}

/// The service, as systemd starts it.
struct Service {
    child: Child,
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Service {
    fn start(node: &Node) -> Service {
        let path = node.0.path("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let child = node.command(&[]).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap();
        Service { child, socket, told: Vec::new() }
    }

    /// All that systemd was told so far.
    fn told(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        &self.told
    }

    fn is_ready(&mut self) -> bool {
        self.told().iter().any(|told| told.lines().any(|line| line == "READY=1"))
    }

    fn until_ready(&mut self) {
        eventually("the service to be ready", LIMIT, || self.is_ready());
    }

    /// Ends as systemd ends it.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(exit_code(&mut self.child), Some(0));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn its_report_is_that_of_sync_with_this_node_alone() {
    let mut node = Node::new();
    node.0.reload = vec!["moh".to_owned()];
    node.0.publish();
    let report = node.once(0);
    assert_eq!(report["nodes"].as_array().unwrap().len(), 1);
    let of_node = &report["nodes"][0];
    assert_eq!((&of_node["name"], &of_node["state"]), (&"mds1".into(), &"ok".into()));
    let directories: Vec<&str> =
        of_node["directories"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(directories, ["moh", "rec"]);
    assert_eq!(
        (&of_node["directories"][0]["created"], &of_node["directories"][0]["bytes"]),
        (&1.into(), &3.into())
    );
    assert_eq!(report["changes"][0]["path"], "a.wav");
    assert_eq!(
        (&report["changes"][0]["to"], &report["changes"][0]["action"]),
        (&"node".into(), &"create".into())
    );
    assert_eq!(of_node["reloads"][0]["state"], "done");
    assert_eq!(node.0.has("reloads").as_deref(), Some("reloaded\n"));

    let file = fs::metadata(node.0.path("moh/a.wav")).unwrap();
    assert_eq!((file.mtime(), file.permissions().mode() & 0o777), (MTIME as i64, 0o644));
    let again = node.once(0);
    assert_eq!(again["changes"].as_array().map(Vec::len), Some(0));
    let standing = node.standing();
    assert_eq!(
        (&standing["state"], &standing["epoch"], &standing["seq"]),
        (&"current".into(), &1.into(), &1.into())
    );
    assert_eq!((&standing["error"], &standing["attempt"]), (&Value::Null, &1.into()));

    // What a recording makes of it has the direction of sync's report too.
    node.0.record("call.wav", "hello");
    let report = node.once(0);
    assert_eq!(
        (&report["changes"][0]["to"], &report["changes"][0]["node"]),
        (&"main".into(), &"mds1".into())
    );
    let text = node.run(&["--once"]);
    assert!(text.status.success() && String::from_utf8_lossy(&text.stdout).contains("in step"), "{text:?}");
}

#[test]
fn exit_codes_say_what_kept_it_from_its_files() {
    let mut node = Node::new();
    let report = node.once(41);
    assert!(report["nodes"][0]["error"].as_str().unwrap().contains("nothing is published"), "{report}");
    node.0.publish();
    node.0.copy("store", "copy");
    node.0.set("moh", "a.wav", b"new");
    node.0.publish();
    node.once(0);
    let before = node.0.files();

    fs::remove_dir_all(node.0.path("store")).unwrap();
    let report = node.once(41);
    assert_eq!(report["exit_code"], 41);
    node.0.copy("copy", "store");
    let report = node.once(50);
    assert!(report["nodes"][0]["error"].as_str().unwrap().contains("rollback"), "{report}");
    assert_eq!((node.0.files(), node.state()), (before, "refused".to_owned()));

    node.configure("labels = ['a b']\n", "");
    let output = node.run(&["--once"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("node.toml:11") && said.contains("follow.labels"), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(node.run(&["--json"]).status.code(), Some(1), "a report is one of --once");
}

#[test]
fn a_second_one_is_turned_away() {
    let node = Node::new();
    let mut service = Service::start(&node);
    eventually("the service to begin", LIMIT, || node.state() == "starting");
    let second = node.run(&[]);
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    service.told();
    service.stop();
}

#[test]
fn asterisk_waits_for_its_files_and_starts_without_them_in_the_end() {
    let mut node = Node::new();
    node.configure(
        "interval = '100ms'\n",
        "[follow.startup]\nretries = 1000\nretry_pause = '100ms'\nretry_max = '100ms'\n",
    );
    let mut service = Service::start(&node);
    eventually("several attempts", LIMIT, || node.standing()["attempt"].as_u64() > Some(3));
    assert!(!service.is_ready());
    assert_eq!(node.state(), "starting");
    node.0.publish();
    service.until_ready();
    assert_eq!((node.0.has("moh/a.wav").as_deref(), node.state()), (Some("one"), "current".to_owned()));
    service.stop();

    let mut node = Node::new();
    node.configure(
        "interval = '100ms'\n",
        "[follow.startup]\nretries = 2\nretry_pause = '100ms'\nretry_max = '100ms'\n",
    );
    let mut service = Service::start(&node);
    service.until_ready();
    assert!(service.told().iter().any(|told| told.contains("DEGRADED")), "{:?}", service.told);
    assert!(node.standing()["attempt"].as_u64() >= Some(3));
    assert_eq!(node.state(), "degraded");
    node.0.publish();
    eventually("the files", LIMIT, || node.state() == "current");
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("one"));
    service.stop();
}

#[test]
fn with_async_nobody_waits() {
    let mut node = Node::new();
    node.configure("interval = '100ms'\n", "[follow.startup]\nmode = 'async'\nretry_pause = '100ms'\n");
    let mut service = Service::start(&node);
    service.until_ready();
    eventually("several attempts", LIMIT, || node.standing()["attempt"].as_u64() > Some(2));
    assert_eq!(node.state(), "starting");
    node.0.publish();
    eventually("the files", LIMIT, || node.state() == "current");
    service.stop();
}

#[test]
fn what_is_published_while_it_starts_is_not_lost() {
    for turn in 0..8 {
        let mut node = Node::new();
        node.0.publish();
        let mut service = Service::start(&node);
        // At another moment in each turn.
        let moment =
            node.0.path(["state", "state/follow", "state/follow/trusted.json", "moh/.xds-sync"][turn % 4]);
        eventually("the service to come so far", LIMIT, || moment.exists());
        node.0.set("moh", "a.wav", b"new");
        node.0.publish();
        eventually("the second publication", LIMIT, || node.standing()["seq"].as_u64() == Some(2));
        assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("new"));
        service.until_ready();
        service.stop();
    }
}

/// The next one would say that it was killed.
#[test]
fn a_pass_that_found_nothing_to_do_has_ended_all_the_same() {
    let mut node = Node::new();
    node.0.publish();
    let mut service = Service::start(&node);
    service.until_ready();
    // With nothing new in it for anybody.
    node.0.publish();
    eventually("the second publication", LIMIT, || node.standing()["seq"] == 2);
    service.stop();
    assert!(!node.0.path("state/follow/running.json").exists());
    assert_eq!(node.once(0)["problems"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_store_that_goes_and_comes_is_told_and_followed() {
    let mut node = Node::new();
    node.0.publish();
    let mut service = Service::start(&node);
    service.until_ready();
    fs::rename(node.0.path("store"), node.0.path("away")).unwrap();
    eventually("the store to be missed", LIMIT, || node.state() == "stale");
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("one"));
    fs::rename(node.0.path("away"), node.0.path("store")).unwrap();
    node.0.set("moh", "a.wav", b"new");
    node.0.publish();
    eventually("the new publication", LIMIT, || node.standing()["seq"].as_u64() == Some(2));
    assert_eq!((node.state(), node.0.has("moh/a.wav").as_deref()), ("current".to_owned(), Some("new")));
    service.stop();
}

/// Contents that were published, by their number; each file has one of them wholly.
const ROUNDS: [[&[u8]; 3]; 2] = [[b"one", b"two", b"three"], [b"newer one", b"newer two", b"newer three"]];

/// Ends it at every point that it meets: each file is old or new, nothing that was recorded is lost, and the next run
/// makes up for it.
#[test]
fn whenever_it_is_killed_files_are_old_or_new_and_the_next_run_mends_it() {
    let names = ["a.wav", "b.wav", "c.wav"];
    let publish = |node: &mut Node, round: usize| {
        for (name, content) in names.iter().zip(ROUNDS[round]) {
            node.0.set("moh", name, content);
        }
        node.0.publish();
    };
    let mut met = 0;
    for point in Point::ALL {
        let mut node = Node::new();
        node.0.set("rec", "main.wav", b"of Main");
        publish(&mut node, 0);
        node.once(0);
        publish(&mut node, 1);
        node.0.main.get_mut("rec").unwrap().clear();
        node.0.set("rec", "other.wav", b"of Main");
        node.0.publish();
        node.0.record("call.wav", "hello");
        let killed = node.command(&["--once"]).env("XDS_FAULT", format!("{point}=kill")).output().unwrap();
        for (name, (old, new)) in names.iter().zip(ROUNDS[0].iter().zip(ROUNDS[1])) {
            let has = fs::read(node.0.path("moh").join(name)).unwrap();
            assert!(has == *old || has == new, "{point}: {name} is {has:?}");
        }
        assert_eq!(node.0.has("rec/call.wav").as_deref(), Some("hello"), "{point}");
        met += usize::from(killed.status.signal() == Some(9));
        node.once(0);
        for (name, new) in names.iter().zip(ROUNDS[1]) {
            assert_eq!(fs::read(node.0.path("moh").join(name)).unwrap(), new, "{point}");
        }
        assert_eq!(node.0.has("rec/call.wav").as_deref(), Some("hello"), "{point}");
        assert_eq!(
            (node.0.has("rec/main.wav"), node.0.has("rec/other.wav").is_some()),
            (None, true),
            "{point}"
        );
        let up = node.0.path("store/v1/nodes/mds1/up");
        assert_eq!(fs::read_dir(up).unwrap().count(), 1, "{point}: uploaded once");
        assert_eq!(node.once(0)["changes"].as_array().map(Vec::len), Some(0), "{point}");
    }
    assert!(met > 25, "only {met} points were met");
}

/// A Main of this program, beside the node: its roots are `main-moh` and `main-rec`.
struct Main<'n>(&'n Node);

impl<'n> Main<'n> {
    fn new(node: &'n Node, settings: &str) -> Main<'n> {
        let path = |name: &str| node.0.path(name).display().to_string();
        fs::remove_dir_all(path("store")).unwrap();
        for name in ["store", "main-moh", "main-rec"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::set_permissions(path("main"), fs::Permissions::from_mode(0o600)).unwrap();
        let key = fs::read_to_string(path("node.pub")).unwrap();
        let text = format!(
            "[main]\nname = 'main'\nhost = 'localhost'\n[sync]\nstate_dir = '{}'\n[ssh]\nidentity = '{}'\n\
             [store]\nurl = 'file://{}'\n[[node]]\nname = 'mds1'\nvia = 'store'\nkey = '{}'\nlabels = ['paris']\n\
             paths = {{ moh = '{}', rec = '{}' }}\n\
             [[directory]]\nname = 'moh'\npath = '{}'\nsettle = '0s'\nreload = ['moh']\n\
             [[directory]]\nname = 'rec'\npath = '{}'\ndirection = 'both'\nsettle = '0s'\n{settings}",
            path("main-state"),
            path("main"),
            path("store"),
            key.trim(),
            path("moh"),
            path("rec"),
            path("main-moh"),
            path("main-rec"),
        );
        fs::write(path("config.toml"), text).unwrap();
        let main = Main(node);
        main.run(0, &["store", "init"]);
        main
    }

    fn run(&self, code: i32, args: &[&str]) -> String {
        String::from_utf8(self.output(code, args).stdout).unwrap()
    }

    /// All that it says.
    fn told(&self, code: i32, args: &[&str]) -> String {
        let Output { stdout, stderr, .. } = self.output(code, args);
        String::from_utf8([stdout, stderr].concat()).unwrap()
    }

    /// A run that a guard stops. Returns what releases that.
    fn halts(&self) -> String {
        let said = self.told(25, &["sync"]);
        said.split("--accept-deletes ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// What it says on stderr.
    fn refused(&self, code: i32, args: &[&str]) -> String {
        String::from_utf8(self.output(code, args).stderr).unwrap()
    }

    fn output(&self, code: i32, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.0.dir.path());
        command.env("XDS_SYNC_CONFIG", self.0.0.path("config.toml")).args(args);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        output
    }

    /// Its hub, and the port that it listens at.
    fn serve(&self) -> (Hub, u16) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.0.dir.path());
        command.env("XDS_SYNC_CONFIG", self.0.0.path("config.toml"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("/store (")).expect("the hub to serve the store");
        thread::spawn(move || lines.for_each(drop));
        let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split_once('/')).unwrap().0;
        (Hub(child), port.parse().unwrap())
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.0.0.path(&format!("main-{path}")), content).unwrap();
    }

    fn has(&self, path: &str) -> Option<String> {
        self.0.0.has(&format!("main-{path}"))
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.0.path(&format!("main-{path}"))).unwrap();
    }
}

struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A proxy that leads to one port, whatever it is asked for, for who knows its password. What it was asked for comes back.
fn proxy(to: u16) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, is_asked) = channel();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut head = BufReader::new(client.try_clone().unwrap());
            let lines: Vec<String> =
                head.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            // `user:secret`
            let is_known = lines
                .iter()
                .any(|line| line.eq_ignore_ascii_case("proxy-authorization: basic dXNlcjpzZWNyZXQ="));
            let mut client = client;
            if !is_known {
                let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                continue;
            }
            let _ = asked.send(lines.first().cloned().unwrap_or_default());
            let mut hub = TcpStream::connect(("127.0.0.1", to)).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut from, mut back) = (client.try_clone().unwrap(), hub.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut back));
            thread::spawn(move || io::copy(&mut hub, &mut client));
        }
    });
    (port, is_asked)
}

#[test]
fn through_the_hub_a_publication_is_here_as_soon_as_it_is_made() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/a.wav", "one");
    main.run(0, &["publish"]);
    let (hub, port) = main.serve();
    let ca = node.0.path("main-state/hub/certificate.pem");
    let store = format!("url = 'https://localhost:{port}/store'\nca = '{}'", ca.display());
    // Nothing but what the hub tells makes it look again.
    node.configure_at(&store, "interval = '1h'\n", "");
    let mut service = Service::start(&node);
    service.until_ready();
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("one"));
    node.0.record("n1.wav", "of the node");
    main.write("moh/a.wav", "two");
    main.run(0, &["publish"]);
    eventually("what was published to be here", LIMIT, || node.0.has("moh/a.wav").as_deref() == Some("two"));
    eventually("the recording to be on Main", LIMIT, || {
        main.run(0, &["publish"]);
        main.has("rec/n1.wav").as_deref() == Some("of the node")
    });
    service.stop();

    // A key that Main does not know, and a hub that is not there.
    let key = fs::read(node.0.path("main")).unwrap();
    fs::write(node.0.path("node"), key).unwrap();
    let refused = node.run(&["--once"]);
    assert_eq!(refused.status.code(), Some(41), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("not signed with the key"), "{refused:?}");
    drop(hub);
    let gone = node.run(&["--once"]);
    assert_eq!(gone.status.code(), Some(41), "{gone:?}");
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("two"));
}

/// A node that looks by itself once an hour is told of publications at `events`.
fn is_told_of_publications(events: &str, node: &Node) {
    let main = Main::new(node, "");
    let path = node.0.path("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[store]\n", &format!("[store]\nevents = '{events}'\n"))).unwrap();
    main.write("moh/a.wav", "one");
    main.run(0, &["publish"]);
    let store = format!("url = 'file://{}'\nevents = '{events}'", node.0.path("store").display());
    node.configure_at(&store, "interval = '1h'\n", "");
    let mut service = Service::start(node);
    service.until_ready();
    for content in ["two", "three"] {
        main.write("moh/a.wav", content);
        main.run(0, &["publish"]);
        eventually("what was published to be here", LIMIT, || {
            node.0.has("moh/a.wav").as_deref() == Some(content)
        });
    }
    service.stop();
}

#[test]
fn a_broker_tells_of_publications() {
    let node = Node::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut broker = Command::new("nats-server");
    broker.args(["--addr", "127.0.0.1", "--port", &port.to_string()]).stderr(Stdio::null());
    let broker = Hub(broker.spawn().expect("nats-server; scripts/setup test installs it"));
    eventually("the broker", LIMIT, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    is_told_of_publications(&format!("nats://127.0.0.1:{port}"), &node);
    // Without the broker a publication is made all the same, and the log says that nobody was told.
    drop(broker);
    let main = Main(&node);
    main.write("moh/a.wav", "four");
    main.run(0, &["publish"]);
    node.once(0);
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("four"));
}

#[test]
fn a_program_tells_of_publications() {
    let node = Node::new();
    let (program, told) = (node.0.path("events"), node.0.path("told"));
    fs::write(&told, "").unwrap();
    let told = told.display();
    let script = format!(
        "#!/bin/sh\ncase $1 in\ntell) echo \"$2\" >>'{told}' ;;\nlisten) exec tail -n 0 -f '{told}' ;;\nesac\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    is_told_of_publications(&format!("exec:{}", program.display()), &node);
}

#[test]
fn the_service_on_main_takes_in_what_was_uploaded() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/a.wav", "one");
    // With a /run of its own: the control socket of the service has one place on a host.
    let mut watch = Command::new("unshare");
    watch.args(["--mount", "sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"]);
    watch.arg(env!("CARGO_BIN_EXE_xds-sync")).args([
        "--config",
        &node.0.path("config.toml").display().to_string(),
        "watch",
    ]);
    watch.env("HOME", node.0.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _watch = Hub(watch.spawn().unwrap());
    eventually("a publication", LIMIT, || node.run(&["--once"]).status.code() == Some(0));
    node.0.record("n1.wav", "of the node");
    node.once(0);
    assert_eq!(node.standing()["uploaded"], 1);
    // Its next look at what is uploaded is half a minute away at most.
    let limit = 2 * LIMIT;
    eventually("the recording to be on Main", limit, || {
        main.has("rec/n1.wav").as_deref() == Some("of the node")
    });
    eventually("what became of it to be published", limit, || {
        node.run(&["--once"]).status.code() == Some(0) && node.standing()["taken"] == 1
    });
}

#[test]
fn a_proxy_may_be_the_only_way_to_the_hub() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/a.wav", "one");
    main.run(0, &["publish"]);
    let (_hub, port) = main.serve();
    let (proxy, asked) = proxy(port);
    let ca = node.0.path("main-state/hub/certificate.pem");
    for (user, code) in [("user:wrong", 41), ("user:secret", 0)] {
        // Nobody listens there.
        let store = format!(
            "url = 'https://localhost:1/store'\nca = '{}'\nproxy = 'http://{user}@127.0.0.1:{proxy}'",
            ca.display()
        );
        node.configure_at(&store, "", "");
        let output = node.run(&["--once"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let told = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&told).contains("wrong"), "its password is told");
    }
    assert_eq!(asked.recv().unwrap(), "CONNECT localhost:1 HTTP/1.1");
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("one"));
}

#[test]
fn with_a_main_that_publishes_files_come_recordings_go_and_deletions_stick() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/waltz.wav", "one");
    for name in ["m1.wav", "m2.wav", "m3.wav"] {
        main.write(&format!("rec/{name}"), name);
    }
    main.run(0, &["publish"]);
    node.once(0);
    assert_eq!(
        (node.0.has("moh/waltz.wav").as_deref(), node.0.has("rec/m1.wav").as_deref()),
        (Some("one"), Some("m1.wav"))
    );

    node.0.record("n1.wav", "of the node");
    node.0.record("n2.wav", "of the node too");
    node.once(0);
    // `sync` takes it in, and publishes.
    let report: Value = serde_json::from_str(&main.run(0, &["sync", "--json"])).unwrap();
    let change = &report["changes"][0];
    assert_eq!(
        (&change["path"], &change["to"], &change["node"]),
        (&"n1.wav".into(), &"main".into(), &"mds1".into())
    );
    assert_eq!(main.has("rec/n1.wav").as_deref(), Some("of the node"));
    node.once(0);
    assert_eq!((&node.standing()["taken"], &node.standing()["uploaded"]), (&1.into(), &1.into()));

    fs::remove_file(node.0.path("rec/n1.wav")).unwrap();
    main.remove("rec/m1.wav");
    main.write("moh/waltz.wav", "another");
    node.once(0);
    main.run(0, &["publish"]);
    assert_eq!(main.has("rec/n1.wav"), None);
    node.once(0);
    assert_eq!((node.0.has("rec/m1.wav"), node.0.has("moh/waltz.wav").as_deref()), (None, Some("another")));
    for _ in 0..2 {
        main.run(0, &["publish"]);
        assert_eq!(node.once(0)["changes"].as_array().map(Vec::len), Some(0));
    }
    assert!(main.has("rec/m1.wav").is_none() && main.has("rec/n1.wav").is_none());
    let seq = node.standing()["seq"].as_u64();
    main.run(0, &["publish"]);
    node.once(0);
    assert_eq!(node.standing()["seq"].as_u64(), seq, "nothing is new");
    // How it is, by its own words, is known on Main.
    main.run(0, &["sync"]);
    let status: Value = serde_json::from_str(&main.run(0, &["status", "--json"])).unwrap();
    let follows = &status["nodes"][0]["follows"];
    assert_eq!((follows["seq"].as_u64(), &follows["state"]), (seq, &"current".into()), "{status}");
    let told = main.run(0, &["status"]);
    assert!(
        told.contains("follows the store: has publication") && told.contains("the newest, told"),
        "{told}"
    );
    assert!(main.run(0, &["nodes", "list"]).contains("mds1"));
}

#[test]
fn a_node_that_joins_a_store_follows_it_once_main_knows_it() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/waltz.wav", "one");
    let dir = node.0.path("etc");
    let file = dir.join("node.toml");
    let url = format!("file://{}", node.0.path("store").display());
    let key = node.0.path("main.pub").display().to_string();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", node.0.dir.path());
        command.env("XDS_SYNC_NODE_CONFIG", &file).args(args).output().unwrap()
    };
    let join = ["join", "--store", &url, "--key", &key, "--name", "mds1", "--label", "paris"];
    let joined = run(&join);
    assert!(joined.status.success(), "{joined:?}");
    let said = String::from_utf8(joined.stdout).unwrap();
    let block = &said[said.find("[[node]]").unwrap()..];
    assert_eq!(fs::metadata(dir.join("node_key")).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&file).unwrap();
    assert!(run(&join).status.success());
    assert_eq!(fs::read(&file).unwrap(), before, "again, it changes nothing");
    let elsewhere = run(&["join", "--store", "file:///elsewhere", "--key", &key, "--name", "mds1"]);
    assert_eq!(elsewhere.status.code(), Some(1), "{elsewhere:?}");

    // What it prints is what Main needs.
    let config = fs::read_to_string(node.0.path("config.toml")).unwrap();
    let (before, rest) = config.split_once("[[node]]").unwrap();
    let (_, directories) = rest.split_once("[[directory]]").unwrap();
    let roots = ["moh", "rec"].map(|name| format!("{name} = '{}'", node.0.path(name).display())).join(", ");
    let config = format!("{before}{}\npaths = {{ {roots} }}\n[[directory]]{directories}", block.trim());
    fs::write(node.0.path("config.toml"), config).unwrap();
    main.run(0, &["publish"]);
    let accept = format!(
        "roots = ['{}', '{}']\nstate_dir = '{}'\n[reload]\nmoh = ['true']\n",
        node.0.path("moh").display(),
        node.0.path("rec").display(),
        node.0.path("state").display()
    );
    let text = fs::read_to_string(&file).unwrap();
    let tables = text[text.rfind("\n[store]").unwrap()..].to_owned();
    fs::write(&file, accept + &tables).unwrap();
    let once = run(&["follow", "--once", "--json"]);
    assert!(once.status.success(), "{once:?}");
    let report: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!(
        report["problems"].as_array().map(Vec::len),
        Some(0),
        "Main knows this node and its key: {report}"
    );
    assert_eq!(node.0.has("moh/waltz.wav").as_deref(), Some("one"));
}

#[test]
fn labels_decide_what_comes() {
    let node = Node::new();
    let main = Main::new(
        &node,
        &format!(
            "[[directory]]\nname = 'rome'\npath = '{}'\nlabels = ['rome']\n",
            node.0.path("main-rome").display()
        ),
    );
    fs::create_dir(node.0.path("main-rome")).unwrap();
    main.write("rome/a.wav", "of rome");
    main.write("moh/a.wav", "of all");
    main.run(0, &["publish"]);
    let report = node.once(0);
    assert!(!report.to_string().contains("rome"), "{report}");
    assert_eq!(node.0.has("moh/a.wav").as_deref(), Some("of all"));
    // The node's own say: it is not for this node, and node.toml does not accept it either.
    node.configure("labels = ['rome']\n", "");
    assert_eq!(node.once(23)["nodes"][0]["directories"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_deletion_that_is_too_much_waits_for_a_token() {
    let node = Node::new();
    let main = Main::new(&node, "");
    let names: Vec<String> = (0..30).map(|number| format!("{number:02}.wav")).collect();
    names.iter().for_each(|name| main.write(&format!("moh/{name}"), name));
    main.run(0, &["publish"]);
    node.once(0);
    names[..29].iter().for_each(|name| main.remove(&format!("moh/{name}")));
    let text = main.run(25, &["publish", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    node.once(0);
    assert!(node.0.has("moh/00.wav").is_some());
    let token = report["halted"][0]["token"].as_str().unwrap();
    main.run(0, &["publish", "--accept-deletes", token]);
    // What was released on Main is released.
    node.once(0);
    assert_eq!((node.0.has("moh/00.wav"), node.0.has("moh/29.wav").is_some()), (None, true));
}

#[test]
fn an_upload_of_somebody_else_is_not_taken_in() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("rec/m1.wav", "m1");
    main.run(0, &["publish"]);
    node.once(0);
    node.0.record("n1.wav", "of the node");
    node.once(0);
    let up = node.0.path("store/v1/nodes/mds1/up/00000000000000000001.xds");
    let mut object = fs::read(&up).unwrap();
    let end = object.len() - 5;
    object[end] ^= 1;
    fs::write(&up, &object).unwrap();
    let said = main.refused(23, &["publish"]);
    assert!(
        said.contains("nothing of mds1 is taken in") && said.contains("remove v1/nodes/mds1/up/0000"),
        "{said}"
    );
    assert_eq!(main.has("rec/n1.wav"), None);
    object[end] ^= 1;
    fs::write(&up, &object).unwrap();
    main.run(0, &["publish"]);
    assert_eq!(main.has("rec/n1.wav").as_deref(), Some("of the node"));
}

#[test]
fn a_node_takes_what_its_owner_lets_it_take() {
    let node = Node::new();
    let main = Main::new(&node, "");
    for name in ["a.wav", "gone.wav", "mine.wav"] {
        main.write(&format!("moh/{name}"), name);
        main.write(&format!("rec/{name}"), name);
    }
    main.run(0, &["publish"]);
    node.once(0);
    let rules = "[[follow.directory]]\nname = 'moh'\ntake = ['update']\nconflict = 'node'\n\
                 [[follow.directory]]\nname = 'rec'\ntake = ['create', 'update']\nconflict = 'manual'\n";
    node.configure("interval = '100ms'\n", rules);
    for dir in ["moh", "rec"] {
        main.write(&format!("{dir}/a.wav"), "newer");
        main.write(&format!("{dir}/new.wav"), "new");
        main.remove(&format!("{dir}/gone.wav"));
        main.write(&format!("{dir}/mine.wav"), "of Main");
        fs::write(node.0.path(&format!("{dir}/mine.wav")), "of the node").unwrap();
    }
    main.run(0, &["publish"]);
    // 43: one waits for a decision. What is not taken is no error, and told by each pass.
    for _ in 0..2 {
        let report = node.once(43);
        let of = |index: usize| &report["nodes"][0]["directories"][index]["not_taken"];
        assert_eq!(*of(0), serde_json::json!({"created": 1, "updated": 0, "deleted": 1}), "{report}");
        assert_eq!(*of(1), serde_json::json!({"created": 0, "updated": 0, "deleted": 1}), "{report}");
        assert_eq!(node.state(), "current");
        let has = |path: &str| node.0.has(path);
        assert_eq!((has("moh/a.wav").as_deref(), has("moh/new.wav")), (Some("newer"), None));
        assert_eq!(
            (has("rec/a.wav").as_deref(), has("rec/new.wav").as_deref()),
            (Some("newer"), Some("new"))
        );
        for dir in ["moh", "rec"] {
            assert_eq!(has(&format!("{dir}/gone.wav")).as_deref(), Some("gone.wav"));
            assert_eq!(has(&format!("{dir}/mine.wav")).as_deref(), Some("of the node"));
        }
        // Nothing of it goes back to Main.
        main.run(0, &["publish"]);
        assert_eq!((main.has("rec/gone.wav"), main.has("rec/mine.wav").as_deref()), (None, Some("of Main")));
    }
    let text = String::from_utf8(node.run(&["--once"]).stdout).unwrap();
    assert!(text.contains("moh: not taken here: 1 new, 1 deletion (take in node.toml)"), "{text}");

    // The conflict is decided where it is.
    let decide = ["conflicts", "resolve", "rec", "mine.wav", "--keep", "mds1"];
    let mut resolve = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
    resolve.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", node.0.dir.path());
    resolve.env("XDS_SYNC_SYNC_STATE_DIR", node.0.path("state/follow")).args(decide);
    let resolved = resolve.output().unwrap();
    assert!(resolved.status.success(), "{resolved:?}");
    node.once(0);
    main.run(0, &["publish"]);
    assert_eq!(main.has("rec/mine.wav").as_deref(), Some("of the node"));

    // Without these rules all of it comes and goes.
    node.configure("interval = '100ms'\n", "[[follow.directory]]\nname = 'mho'\n");
    let report = node.once(0);
    assert!(report["problems"].to_string().contains("follow.directory.mho: no such directory"), "{report}");
    for dir in ["moh", "rec"] {
        assert_eq!(node.0.has(&format!("{dir}/gone.wav")), None);
        assert_eq!(node.0.has(&format!("{dir}/new.wav")).as_deref(), Some("new"));
    }
    assert_eq!(node.0.has("moh/mine.wav").as_deref(), Some("of Main"));
    assert!(node.once(0)["changes"].as_array().unwrap().is_empty());

    node.configure("", "[[follow.directory]]\nname = 'moh'\ntake = ['creates']\n");
    let refused = node.run(&["--once"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("node.toml:14: follow.directory.moh.take: expected one of \"create\""), "{said}");
}

#[test]
fn a_node_hands_in_its_key_at_the_hub_and_is_approved() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/a.wav", "one");
    let config = fs::read_to_string(node.0.path("config.toml")).unwrap();
    // Main knows no node yet.
    let (before, rest) = config.split_once("[[node]]").unwrap();
    let (_, directories) = rest.split_once("[[directory]]").unwrap();
    let other = "[[node]]\nname = 'other'\nvia = 'store'\nkey = '";
    let key = fs::read_to_string(node.0.path("node.pub")).unwrap();
    fs::write(
        node.0.path("config.toml"),
        format!("{before}{other}{}'\n[[directory]]{directories}", key.trim()),
    )
    .unwrap();
    main.run(0, &["publish"]);
    let (_hub, port) = main.serve();
    let url = format!("https://localhost:{port}/store");
    let (main_key, ca) = (node.0.path("main.pub"), node.0.path("main-state/hub/certificate.pem"));
    let run = |etc: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", node.0.dir.path());
        command.env("XDS_SYNC_NODE_CONFIG", node.0.path(etc).join("node.toml")).args(args).output().unwrap()
    };
    let main_key = main_key.display().to_string();
    let join = ["join", "--store", &url, "--key", &main_key, "--name", "mds7", "--label", "paris"];
    let joined = |etc: &str| {
        let output = run(etc, &join);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let fingerprint = |etc: &str| {
        let public = node.0.path(etc).join("node_key.pub");
        let listed = Command::new("ssh-keygen").arg("-lf").arg(public).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        listed.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
    };
    // Somebody else is quicker, and asks under that name.
    let first = joined("stranger");
    assert!(first.contains("xds-sync nodes approve mds7 --key SHA256:"), "{first}");
    let second = joined("etc");
    assert!(second.contains("nodes approve mds7 --reject") && second.contains("[[node]]"), "{second}");
    let (stranger, own) = (fingerprint("stranger"), fingerprint("etc"));
    let list: Value = serde_json::from_str(&main.run(0, &["nodes", "approve", "--json"])).unwrap();
    assert_eq!(
        (&list["nodes"][0]["name"], &list["nodes"][0]["key"]),
        (&"mds7".into(), &stranger.clone().into())
    );
    let approve = |key: &str, code: i32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", node.0.dir.path());
        command.env("XDS_SYNC_CONFIG", node.0.path("config.toml"));
        let args = ["nodes", "approve", "mds7", "--key", key, "--label", "paris"];
        let output = command.args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let refused = approve(&own, 1);
    assert!(refused.contains(&stranger) && refused.contains("--reject"), "{refused}");
    assert!(!node.0.path("conf.d/nodes.toml").exists());
    main.run(1, &["nodes", "approve", "mds7"]);
    main.run(0, &["nodes", "approve", "mds7", "--reject"]);
    let again = joined("etc");
    assert!(again.contains(&format!("nodes approve mds7 --key {own} --label paris")), "{again}");

    // Until it is approved it is told so.
    let file = node.0.path("etc/node.toml");
    let text = fs::read_to_string(&file).unwrap();
    let tables = text[text.rfind("\n[store]").unwrap()..]
        .replace("[follow]", &format!("ca = '{}'\n[follow]", ca.display()));
    let accept = format!(
        "roots = ['{}', '{}']\nstate_dir = '{}'\n[reload]\nmoh = ['true']\n",
        node.0.path("main-moh").display(),
        node.0.path("main-rec").display(),
        node.0.path("state").display()
    );
    fs::write(&file, accept + &tables).unwrap();
    let early = run("etc", &["follow", "--once"]);
    assert_eq!(early.status.code(), Some(41), "{early:?}");
    let said = String::from_utf8_lossy(&early.stdout).into_owned();
    assert!(said.contains("mds7 is not approved yet: run `xds-sync nodes approve mds7` on Main"), "{said}");

    // What somebody who has taken over the hub puts into its folder is passed over.
    let waiting = node.0.path("main-state/hub/waiting");
    std::os::unix::fs::symlink("/etc/shadow", waiting.join("link")).unwrap();
    approve(&own, 0);
    let written = fs::read_to_string(node.0.path("conf.d/nodes.toml")).unwrap();
    assert!(written.contains("name = \"mds7\"\nvia = \"store\"\nkey = \"ssh-ed25519 "), "{written}");
    assert!(written.ends_with("labels = [\"paris\"]\n") && !waiting.join("mds7").exists(), "{written}");
    eventually("the hub to know the node", LIMIT, || {
        // Its files are here already: Main's own.
        run("etc", &["follow", "--once", "--dry-run"]).status.code() == Some(0)
    });
    assert!(joined("etc").contains("has approved this node"));
    assert!(approve(&own, 1).contains("does not wait"));
    let listed = main.run(0, &["nodes", "list"]);
    assert!(listed.contains("mds7"), "{listed}");
    main.run(0, &["nodes", "remove", "mds7"]);
    assert!(!main.run(0, &["nodes", "list"]).contains("mds7"));
}

/// Its files stay, and the node says so once, whoever has taken the label away.
#[test]
fn a_directory_that_comes_no_more_is_told_of_and_stays_as_it_is() {
    let node = Node::new();
    let main = Main::new(&node, "labels = ['paris']\n");
    main.write("rec/m1.wav", "of Main");
    main.run(0, &["publish"]);
    node.once(0);
    let told = |report: &Value| -> Vec<String> {
        let problems = report["problems"].as_array().unwrap();
        problems.iter().map(|problem| problem["detail"].as_str().unwrap().to_owned()).collect()
    };
    let says = |labels: &str| {
        format!(
            "rec comes here no more (it is for the labels paris, and this node has {labels}): its files stay as they are, and \
             nothing that is recorded there goes to Main"
        )
    };
    node.configure("labels = ['lyon']\n", "");
    assert_eq!(told(&node.once(0)), [says("the labels lyon")]);
    assert!(told(&node.once(0)).is_empty(), "once");
    node.configure("", "");
    assert!(told(&node.once(0)).is_empty());

    let path = node.0.path("config.toml");
    let with = fs::read_to_string(&path).unwrap();
    fs::write(&path, with.replacen("labels = ['paris']\npaths", "paths", 1)).unwrap();
    main.run(0, &["publish"]);
    assert_eq!(told(&node.once(0)), [says("no label")]);
    // What is recorded meanwhile is not lost: it goes to Main once the label is back.
    node.0.record("n1.wav", "of the node");
    main.write("moh/a.wav", "one");
    main.run(0, &["publish"]);
    node.once(0);
    assert_eq!((main.has("rec/n1.wav"), node.0.has("rec/m1.wav").as_deref()), (None, Some("of Main")));
    fs::write(&path, with).unwrap();
    main.run(0, &["publish"]);
    node.once(0);
    main.run(0, &["publish"]);
    assert_eq!(main.has("rec/n1.wav").as_deref(), Some("of the node"));
}

/// Room for what is new once, and not twice: it waits in the stage before it is put in place. Where there is too little of it,
/// nothing is fetched.
#[test]
fn what_is_new_needs_its_room_once() {
    let node = Node::new();
    let main = Main::new(&node, "");
    for number in 0..8 {
        // Nothing that shrinks.
        let noise = Command::new("head").args(["-c", "500000", "/dev/urandom"]).output().unwrap().stdout;
        fs::write(node.0.path(&format!("main-moh/{number}.wav")), noise).unwrap();
    }
    main.run(0, &["publish"]);
    // A disk of its own for the directory, which ends with the process.
    let follow = |room: &str| {
        let moh = node.0.path("moh").display().to_string();
        let script = format!(
            "mount -t tmpfs -o size={room} none '{moh}' && \"$@\" follow --once; code=$?; df --output=used '{moh}' | tail -n 1; \
             exit $code"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_xds-sync")]);
        command.env("XDS_SYNC_NODE_CONFIG", node.0.path("node.toml")).env("HOME", node.0.dir.path());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let used: u64 = said.lines().last().unwrap().trim().parse().unwrap();
        (output.status.code(), used, said)
    };
    let (code, used, said) = follow("3m");
    assert!(code == Some(23) && said.contains("free_space") && used < 100, "{said}");
    let (code, used, said) = follow("6m");
    assert!(code == Some(0) && used > 3900, "{said}");
}

/// It is known, and the answer says what to do instead.
#[test]
fn commands_that_need_a_connection_say_that_a_node_follows() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/a.wav", "one");
    main.run(0, &["publish"]);
    for (args, instead) in [
        (&["sync", "--node", "mds1"][..], "`xds-sync follow --once` there"),
        (&["nodes", "install", "mds1"], "`xds-sync join --store` there"),
        (&["restore", "moh", "a.wav", "--node", "mds1"], ".xds-sync/trash of the directory there"),
    ] {
        let said = main.refused(1, args);
        assert!(
            said.contains("mds1 follows the store by itself") && said.contains(instead),
            "{args:?}: {said}"
        );
    }
    assert!(main.refused(1, &["sync", "--node", "mds9"]).contains("unknown node: mds9"));
    main.run(0, &["history", "--node", "mds1"]);
}

#[test]
fn what_was_said_of_a_publication_is_no_longer_so_after_the_next_one() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.write("moh/a.wav", "one");
    main.run(0, &["publish"]);
    main.write("moh/a.wav", "two");
    main.run(0, &["sync"]);
    main.run(0, &["store", "rollback", "1"]);
    main.run(0, &["sync"]);
    assert!(main.run(0, &["status"]).contains("publication 3 is a rollback"));
    main.run(0, &["publish"]);
    let told = main.run(0, &["status"]);
    assert!(!told.contains("rollback"), "{told}");
}

/// Both ends have it, and Main has taken it in; but what is published is older than that.
#[test]
fn what_main_has_taken_in_and_not_published_is_not_deleted_where_it_was_recorded() {
    let node = Node::new();
    let main = Main::new(&node, "");
    for number in 0..30 {
        fs::write(main.0.0.path(&format!("main-rec/{number}.wav")), "recorded").unwrap();
    }
    main.run(0, &["publish"]);
    main.0.once(0);
    for number in 0..29 {
        fs::remove_file(main.0.0.path(&format!("main-rec/{number}.wav"))).unwrap();
    }
    main.0.0.record("new.wav", "new");
    main.0.once(0);
    let token = main.halts();
    // A run for some directories publishes nothing.
    main.run(0, &["sync", "--dir", "rec", "--accept-deletes", &token]);
    assert_eq!(main.0.0.has("main-rec/new.wav").as_deref(), Some("new"));
    main.0.once(0);
    assert_eq!(main.0.0.has("rec/new.wav").as_deref(), Some("new"));
    let said = main.told(0, &["publish", "--accept-deletes", &token]);
    assert!(!said.contains("releases no plan"), "it was for the publication: {said}");
    let said = main.told(0, &["publish", "--accept-deletes", &token]);
    assert_eq!(said.matches("warning: the token").count(), 1, "{said}");
    main.0.once(0);
    assert_eq!(main.0.0.has("rec/new.wav").as_deref(), Some("new"));
    assert_eq!(main.0.0.files().len(), 2);
}

#[test]
fn a_token_releases_a_deletion_for_a_run_and_for_the_publication_after_it() {
    for uploads in [false, true] {
        let node = Node::new();
        let main = Main::new(&node, "");
        for number in 0..30 {
            fs::write(main.0.0.path(&format!("main-rec/{number}.wav")), "recorded").unwrap();
        }
        main.run(0, &["publish"]);
        main.0.once(0);
        for number in 0..29 {
            fs::remove_file(main.0.0.path(&format!("main-rec/{number}.wav"))).unwrap();
        }
        if uploads {
            main.0.0.record("new.wav", "new");
            main.0.once(0);
        }
        let token = main.halts();
        let said = main.told(0, &["sync", "--accept-deletes", &token]);
        assert!(!said.contains("releases no plan"), "{said}");
        main.0.once(0);
        let left: Vec<String> = main.0.0.files().into_keys().collect();
        assert_eq!(left, if uploads { vec!["rec/29.wav", "rec/new.wav"] } else { vec!["rec/29.wav"] });
        // Of no use any more.
        let said = main.told(0, &["sync", "--accept-deletes", &token]);
        assert_eq!(said.matches("releases no plan").count(), 1, "{said}");
    }
}

#[test]
fn another_main_takes_in_nothing_a_second_time() {
    let node = Node::new();
    let main = Main::new(&node, "");
    main.run(0, &["publish"]);
    main.0.0.record("new.wav", "new");
    main.0.once(0);
    main.run(0, &["publish"]);
    fs::remove_file(main.0.0.path("main-rec/new.wav")).unwrap();
    fs::write(main.0.0.path("main-rec/other.wav"), "other").unwrap();
    main.run(0, &["publish"]);
    main.0.once(0);
    assert_eq!(main.0.0.has("rec/new.wav"), None);
    main.run(0, &["store", "release"]);
    fs::rename(main.0.0.path("main-state"), main.0.0.path("gone")).unwrap();
    main.run(0, &["store", "claim"]);
    main.run(0, &["publish"]);
    main.0.once(0);
    let has = |name: &str| main.0.0.has(name);
    assert_eq!((has("main-rec/new.wav"), has("rec/new.wav")), (None, None), "it was deleted");
    assert_eq!(has("rec/other.wav").as_deref(), Some("other"));
}
