//! The indirect way as an administrator has it: the program, with a store in a real directory. Nothing here leaves its own
//! temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/wait.rs"]
#[allow(dead_code, unreachable_pub)]
mod wait;

#[path = "support/s3.rs"]
#[allow(dead_code, unreachable_pub)]
mod s3;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use s3::S3;
use serde_json::Value;
use tempfile::TempDir;

const END: &str = "-----END SSH SIGNATURE-----\n";

/// A Main with one pushed directory, and a store beside it.
struct Site {
    dir: TempDir,
    url: String,
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}{}", self.stdout, self.stderr))
    }
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        let url = format!("file://{}", dir.path().join("store").display());
        let site = Site { dir, url };
        site.main("main", "key");
        fs::create_dir(site.path("moh")).unwrap();
        fs::create_dir(site.path("recordings")).unwrap();
        site
    }

    /// A Main with its own state, and a key that may be another's.
    fn main(&self, name: &str, key: &str) {
        let identity = self.path(key);
        if !identity.exists() {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&identity);
            assert!(keygen.status().unwrap().success());
        }
        let text = format!(
            "[main]\nname = {name:?}\nhost = \"main.example.org\"\n[ssh]\nidentity = {identity:?}\n[sync]\nstate_dir = {:?}\n\
             [store]\nurl = {:?}\n[[directory]]\nname = \"moh\"\npath = {:?}\nsettle = \"0s\"\n[[directory]]\nname = \
             \"recordings\"\npath = {:?}\ndirection = \"both\"\nsettle = \"0s\"\n[[node]]\nname = \"mds1\"\nvia = \"store\"\n\
             key = {:?}\nlabels = [\"paris\"]\n",
            self.path(&format!("{name}-state")),
            self.url,
            self.path("moh"),
            self.path("recordings"),
            NODE_KEY,
        );
        fs::write(self.config(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.toml"))
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command(&self, main: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xds-sync"));
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap())
            .args(["--config", self.config(main).to_str().unwrap()])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    fn run_as(&self, main: &str, args: &[&str]) -> Ran {
        ran(&mut self.command(main, args))
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_as("main", args)
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, says: &str) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
        ran
    }

    fn object(&self, name: &str) -> PathBuf {
        self.path("store").join(name)
    }

    /// A head as it lies in the store: signature and what is signed.
    fn head(&self, seq: u64) -> (String, String) {
        let text = fs::read_to_string(self.object(&format!("v1/heads/{seq:020}.xds"))).unwrap();
        let at = text.find(END).unwrap() + END.len();
        (text[..at].to_owned(), text[at..].to_owned())
    }

    /// The first node of a group.
    fn group(&self, group: &Value) -> Value {
        let hash = group["object"].as_str().unwrap();
        let object = fs::read_to_string(self.object(&format!("v1/o/{}/{hash}", &hash[..2]))).unwrap();
        assert_eq!(group["len"], object.len());
        serde_json::from_str(object.lines().next().unwrap()).unwrap()
    }

    fn head_json(&self, seq: u64) -> Value {
        serde_json::from_str(&self.head(seq).1).unwrap()
    }

    /// How many publications there are; not what is on its way to be one.
    fn heads(&self) -> usize {
        let Ok(heads) = fs::read_dir(self.object("v1/heads")) else { return 0 };
        heads.filter(|head| head.as_ref().unwrap().path().extension().is_some_and(|end| end == "xds")).count()
    }

    /// The lines of a directory's tree in a publication, by path.
    fn tree(&self, seq: u64, directory: &str) -> BTreeMap<String, Value> {
        let head = self.head_json(seq);
        let directories = head["directories"].as_array().unwrap();
        let found = directories.iter().find(|found| found["name"] == directory).unwrap();
        let hash = found["tree"].as_str().unwrap();
        let object = fs::read(self.object(&format!("v1/o/{}/{hash}", &hash[..2]))).unwrap();
        let text = zstd::stream::decode_all(&object[..]).unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let line: Value = serde_json::from_slice(line).unwrap();
                (line["path"].as_str().unwrap().to_owned(), line)
            })
            .collect()
    }

    /// Every file below the store.
    fn objects(&self) -> Vec<PathBuf> {
        files(&self.path("store"))
    }
}

const NODE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ node";

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_publication_is_signed_and_named_by_what_it_is() {
    let site = Site::new();
    site.fails(&["publish"], 41, "store init");
    site.ok(&["store", "init"]);
    site.ok(&["store", "init"]);
    site.write("moh/jazz/a.wav", "jazz");
    site.write("recordings/1.wav", "recorded");
    fs::set_permissions(site.path("moh/jazz/a.wav"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("a.wav", site.path("moh/jazz/b.wav")).unwrap();
    let dry = site.ok(&["publish", "-n", "--json"]).json();
    assert_eq!((&dry["published"], site.heads()), (&Value::Bool(false), 0));
    let published = site.ok(&["publish", "--json"]).json();
    assert_eq!(published["published"], true, "{published}");
    assert_eq!(published["store"]["seq"], 1);

    let (signature, payload) = site.head(1);
    let signers = site.path("signers");
    let key = fs::read_to_string(site.path("key.pub")).unwrap();
    fs::write(&signers, format!("main {key}")).unwrap();
    fs::write(site.path("signature"), signature).unwrap();
    for (said, good) in [(payload.clone(), true), (payload + " ", false)] {
        fs::write(site.path("payload"), said).unwrap();
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-Y", "verify", "-I", "main", "-n", "xds-sync-head@v1", "-f"]).arg(&signers);
        verify.arg("-s").arg(site.path("signature")).stdin(fs::File::open(site.path("payload")).unwrap());
        verify.stdout(Stdio::null()).stderr(Stdio::null());
        assert_eq!(verify.status().unwrap().success(), good);
    }
    let objects = files(&site.object("v1/o"));
    assert!(objects.len() >= 4, "{objects:?}");
    for object in objects {
        assert_eq!(sha256(&object), object.file_name().unwrap().to_str().unwrap());
    }
    let head = site.head_json(1);
    let group = site.group(&head["groups"][0]);
    assert_eq!((&group["name"], &group["taken"]), (&Value::from("mds1"), &Value::from(0)));
    assert_eq!((&head["seq"], &head["reason"]), (&Value::from(1), &Value::from("publish")));
    let tree = site.tree(1, "moh");
    assert_eq!(tree["jazz"]["type"], "dir");
    assert_eq!(
        (&tree["jazz/a.wav"]["mode"], &tree["jazz/a.wav"]["size"]),
        (&Value::from("0640"), &Value::from(4))
    );
    assert_eq!(tree["jazz/b.wav"]["link"], "a.wav");
    let digest = blake3::hash(b"jazz").to_hex().to_string();
    assert_eq!(tree["jazz/a.wav"]["digest"], digest.as_str());
    site.ok(&["store", "verify"]);
    site.ok(&["store", "check"]);
}

#[test]
fn nothing_new_makes_no_head_and_a_change_costs_what_it_is() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    for n in 0..50 {
        site.write(&format!("moh/{n}.wav"), &format!("file {n}"));
    }
    site.ok(&["publish"]);
    let before = site.objects();
    let again = site.ok(&["publish", "--json"]).json();
    assert_eq!((&again["published"], &again["store"]["seq"]), (&Value::Bool(false), &Value::from(1)));
    assert_eq!(site.objects(), before);
    site.write("moh/7.wav", "another");
    fs::remove_file(site.path("moh/8.wav")).unwrap();
    let changed = site.ok(&["publish", "--json"]).json();
    let moh = &changed["directories"][0];
    assert_eq!((&moh["updated"], &moh["deleted"]), (&Value::from(1), &Value::from(1)), "{changed}");
    // One part, one tree, one head.
    assert_eq!(site.objects().len(), before.len() + 3);
    assert_eq!(site.head_json(2)["prev"], sha256(&site.object("v1/heads/00000000000000000001.xds")).as_str());
    assert!(!site.tree(2, "moh").contains_key("8.wav"));
}

#[test]
fn what_is_not_what_its_name_says_is_named() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "a sound");
    site.ok(&["publish"]);
    for object in site.objects() {
        let good = fs::read(&object).unwrap();
        let mut bad = good.clone();
        let at = bad.len() / 2;
        bad[at] ^= 1;
        fs::write(&object, &bad).unwrap();
        let name = object.file_name().unwrap().to_str().unwrap();
        let shown = if object.starts_with(site.object("v1/alive")) { "sign of life" } else { name };
        site.fails(&["store", "verify"], 50, shown);
        fs::write(&object, good).unwrap();
    }
    fs::remove_file(files(&site.object("v1/o")).pop().unwrap()).unwrap();
    site.fails(&["store", "verify"], 50, "missing");
}

#[test]
fn a_guard_holds_back_what_would_delete_too_much() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    for n in 0..30 {
        site.write(&format!("moh/{n}.wav"), &format!("file {n}"));
    }
    site.ok(&["publish"]);
    for n in 0..20 {
        fs::remove_file(site.path(&format!("moh/{n}.wav"))).unwrap();
    }
    let halted = site.run(&["publish", "--json"]);
    assert_eq!(halted.code, Some(25));
    let halted = halted.json();
    let token = halted["halted"][0]["token"].as_str().unwrap().to_owned();
    assert_eq!((halted["halted"][0]["guard"].as_str(), site.heads()), (Some("max_delete"), 1));
    site.ok(&["publish", "--accept-deletes", &token]);
    assert_eq!(site.tree(2, "moh").len(), 10);
    assert_eq!(site.head_json(2)["directories"][0]["accepted"][0], token.as_str());
    // A disk that is not mounted is no deletion.
    fs::rename(site.path("moh"), site.path("elsewhere")).unwrap();
    site.fails(&["publish"], 3, "moh");
    assert_eq!(site.heads(), 2);
}

#[test]
fn one_main_alone_publishes() {
    let site = Site::new();
    site.main("spare", "key");
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    site.ok(&["publish"]);
    let claim = site.run_as("spare", &["store", "claim", "--json"]);
    assert_eq!((claim.code, &claim.json()["store"]["holder"]), (Some(4), &Value::from("main")));
    let init = site.run_as("spare", &["store", "init"]);
    assert_eq!(init.code, Some(4), "{}", init.stderr);
    let publish = site.run_as("spare", &["publish", "--json"]);
    assert_eq!((publish.code, &publish.json()["store"]["holder"]), (Some(4), &Value::from("main")));

    site.ok(&["store", "release"]);
    site.fails(&["publish"], 4, "released");
    let claim = site.run_as("spare", &["store", "claim"]);
    assert_eq!(claim.code, Some(0), "{}", claim.stderr);
    let published = site.run_as("spare", &["publish", "--json"]);
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    let passive = site.run(&["publish", "--json"]);
    assert_eq!((passive.code, &passive.json()["store"]["holder"]), (Some(4), &Value::from("spare")));
    let sync = site.run(&["sync"]);
    assert_eq!(sync.code, Some(4), "{}{}", sync.stdout, sync.stderr);
    assert!(
        sync.stdout.contains("nothing was published") && sync.stdout.contains("spare"),
        "{}",
        sync.stdout
    );

    let wrong = site.run(&["store", "claim", "--force", "other"]);
    assert_eq!(wrong.code, Some(4), "{}", wrong.stderr);
    site.ok(&["store", "claim", "--force", "spare"]);
    site.write("moh/a.wav", "two");
    site.ok(&["publish"]);
    assert_eq!(site.run_as("spare", &["publish"]).code, Some(4));
    assert_eq!(site.ok(&["store", "verify", "--json"]).json()["verify"]["wrong"], Value::Array(Vec::new()));
}

#[test]
fn a_main_that_was_set_back_publishes_nothing() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    site.ok(&["publish"]);
    let copy = site.path("copy");
    let copied = Command::new("cp").arg("-a").arg(site.path("store")).arg(&copy).status().unwrap();
    assert!(copied.success());
    site.write("moh/a.wav", "two");
    site.ok(&["publish"]);
    fs::remove_dir_all(site.path("store")).unwrap();
    fs::rename(&copy, site.path("store")).unwrap();
    site.fails(&["publish"], 50, "rollback");
    // One that was lost is made anew, and goes on where it was.
    fs::remove_dir_all(site.path("store")).unwrap();
    site.fails(&["publish"], 41, "no store");
    fs::create_dir(site.path("store")).unwrap();
    site.fails(&["publish"], 41, "store init");
    site.ok(&["store", "init"]);
    let published = site.ok(&["publish", "--json"]).json();
    assert_eq!(
        (&published["store"]["seq"], &published["store"]["epoch"]),
        (&Value::from(3), &Value::from(2))
    );
    site.ok(&["store", "verify"]);
}

#[test]
fn a_publisher_that_is_killed_anywhere_leaves_the_old_one_or_the_new_one() {
    for point in ["store.part", "store.tree", "store.nodes", "store.head", "store.alive", "state.rename"] {
        let site = Site::new();
        site.ok(&["store", "init"]);
        site.write("moh/a.wav", "one");
        site.ok(&["publish"]);
        site.write("moh/a.wav", "two");
        let config = fs::read_to_string(site.config("main")).unwrap();
        fs::write(site.config("main"), config.replace("\"paris\"", "\"rome\"")).unwrap();
        let mut killed = site.command("main", &["publish"]);
        let killed = ran(killed.env("XDS_FAULT", format!("{point}=kill")));
        assert_eq!(killed.code, None, "{point} is never met: {}", killed.stderr);
        site.ok(&["store", "verify"]);
        let published = site.ok(&["publish", "--json"]).json();
        assert_eq!(published["store"]["seq"], 2, "{point}");
        assert_eq!(site.heads(), 2, "{point}");
        assert_eq!(site.tree(2, "moh")["a.wav"]["digest"], blake3::hash(b"two").to_hex().as_str());
        assert_eq!(site.group(&site.head_json(2)["groups"][0])["labels"][0], "rome");
        let alive = fs::read_to_string(site.object("v1/alive/0000000001.xds")).unwrap();
        assert!(alive.contains("\"seq\": 2"), "{alive}");
    }
}

#[test]
fn an_older_publication_comes_back_and_stays_until_somebody_says_otherwise() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    site.write("recordings/1.wav", "first");
    site.ok(&["publish"]);
    site.write("moh/a.wav", "two");
    site.write("recordings/2.wav", "second");
    site.ok(&["publish"]);
    site.ok(&["store", "rollback", "1"]);
    assert_eq!(site.head_json(3)["reason"], "rollback:1");
    assert_eq!(site.tree(3, "moh")["a.wav"]["digest"], blake3::hash(b"one").to_hex().as_str());
    assert_eq!(site.tree(3, "recordings").len(), 2, "what was recorded since stays");
    let waits = "nothing that is new on Main is published until somebody runs `xds-sync publish`";
    assert!(site.ok(&["sync"]).stdout.contains(waits));
    assert!(site.ok(&["status"]).stdout.contains(waits));
    assert_eq!(site.heads(), 3, "a run does not undo it");
    site.ok(&["publish"]);
    assert_eq!(site.tree(4, "moh")["a.wav"]["digest"], blake3::hash(b"two").to_hex().as_str());
    site.fails(&["store", "rollback", "77"], 1, "no publication 77");
    let list = site.ok(&["store", "list", "--json"]).json();
    let seqs: Vec<_> =
        list["publications"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [4, 3, 2, 1]);
}

/// A program that keeps objects in the directory `store`, and that interrupts its caller at the first `get` after `arm`.
const INTERRUPTING: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = get ] && [ -e arm ]; then rm arm; kill -INT $PPID; fi
object=store/$2
mkdir -p "$(dirname "$object")"
case $1 in
get) [ -f "$object" ] || exit 3; cat "$object" ;;
create) [ ! -e "$object" ] || exit 4; cat >"$object" ;;
put) cat >"$object" ;;
list) cd store; find . -type f | sed 's,^[.]/,,' | grep "^$2" || true ;;
delete) rm -f "$object" ;;
esac
"#;

#[test]
fn an_interrupted_publication_is_none() {
    let mut site = Site::new();
    site.write("helper", INTERRUPTING);
    fs::set_permissions(site.path("helper"), fs::Permissions::from_mode(0o755)).unwrap();
    site.url = format!("exec:{}", site.path("helper").display());
    site.main("main", "key");
    // Without nodes nothing is asked of the store before the run begins, and can be interrupted.
    let config = fs::read_to_string(site.config("main")).unwrap();
    fs::write(site.config("main"), &config[..config.find("[[node]]").unwrap()]).unwrap();
    site.write("moh/a.wav", "one");
    site.ok(&["store", "init"]);
    site.write("arm", "");
    let ran = site.run(&["publish"]);
    assert_eq!((ran.code, site.heads()), (Some(20), 0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("interrupted"), "{}", ran.stdout);
    site.ok(&["publish"]);
    assert_eq!(site.heads(), 1);
}

#[test]
fn a_publication_that_fails_is_no_run_that_did_not_end() {
    let site = Site::new();
    site.write("moh/a.wav", "one");
    site.ok(&["store", "init"]);
    fs::write(site.object("v1/heads"), "").unwrap();
    site.fails(&["publish"], 41, "creating v1/heads");
    fs::remove_file(site.object("v1/heads")).unwrap();
    let ran = site.ok(&["sync"]);
    assert!(!(ran.stdout + &ran.stderr).contains("did not end"));
}

#[test]
fn a_node_that_follows_is_known_to_whoever_checks_nodes() {
    let site = Site::new();
    let ran = site.ok(&["nodes", "check", "mds1"]);
    assert!(ran.stderr.contains("mds1 follows the store"), "{}", ran.stderr);
}

#[test]
fn a_store_that_is_not_there_is_told_in_plain_words() {
    let site = Site::new();
    fs::remove_dir(site.path("store")).unwrap();
    let place = site.path("store");
    let says = format!("there is no store at {}: No such file or directory; is it mounted?", place.display());
    site.fails(&["publish"], 41, &says);
    fs::write(place, "").unwrap();
    site.fails(&["store", "check"], 41, "it is not a directory");
}

#[test]
fn a_run_publishes_too() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    site.ok(&["sync", "-n"]);
    assert_eq!(site.heads(), 0);
    site.ok(&["sync"]);
    assert_eq!(site.heads(), 1);
    site.ok(&["sync"]);
    assert_eq!(site.heads(), 1);
}

#[test]
fn garbage_goes_after_a_day_and_nothing_else_does() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    site.ok(&["publish"]);
    let orphan = sha256(&site.path("moh/a.wav"));
    // As a publisher leaves it that was killed.
    let path = site.object(&format!("v1/o/{}/{orphan}", &orphan[..2]));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(site.path("moh/a.wav"), &path).unwrap();
    let needed = site.tree(1, "moh")["a.wav"]["parts"][0]["o"].as_str().unwrap().to_owned();
    let is_orphan = needed != orphan;
    let collected = site.ok(&["store", "gc", "--json"]).json();
    assert_eq!(collected["gc"]["condemned"], u64::from(is_orphan), "{collected}");
    assert!(path.exists());
    let again = site.ok(&["store", "gc", "--json"]).json();
    assert_eq!((&again["gc"]["condemned"], &again["gc"]["deleted"]), (&Value::from(0), &Value::from(0)));
    site.ok(&["store", "verify"]);
}

#[test]
fn a_publication_of_many_parts_is_cut() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    let mut content = Vec::new();
    let mut reader = blake3::Hasher::new().finalize_xof();
    content.resize((16 << 20) + 5, 0);
    reader.fill(&mut content);
    fs::write(site.path("moh/big.wav"), &content).unwrap();
    let sparse = fs::File::create(site.path("moh/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    drop(sparse);
    site.ok(&["publish"]);
    let tree = site.tree(1, "moh");
    let parts = tree["big.wav"]["parts"].as_array().unwrap();
    assert_eq!((parts.len(), &parts[1]["plain_len"]), (2, &Value::from(5)));
    assert_eq!(tree["sparse"]["parts"][0]["enc"], "zero", "{}", tree["sparse"]);
    assert!(site.objects().iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>() < 20 << 20);
}

#[test]
fn mistakes_are_named() {
    let site = Site::new();
    let good = fs::read_to_string(site.config("main")).unwrap();
    for (from, to, says) in [
        ("via = \"store\"", "via = \"post\"", "expected one of \"ssh\", \"store\""),
        ("key = \"ssh", "key = \"none", "expected a public key"),
        ("labels = [\"paris\"]\n", "address = \"10.0.0.1\"\n", "leave it out"),
        ("via = \"store\"\n", "address = \"10.0.0.1\"\n", "only a node with via"),
        ("[store]\nurl", "[store]\nurls", "url"),
        ("url = \"file:///", "url = \"ftp:///", "expected a URL such as"),
    ] {
        fs::write(site.config("main"), good.replacen(from, to, 1)).unwrap();
        let ran = site.run(&["config", "check"]);
        let said = ran.stdout.clone() + &ran.stderr;
        assert_eq!(ran.code, Some(1), "{to}: {said}");
        assert!(said.contains(says) && said.contains("main.toml:"), "{to}: {said}");
    }
    fs::write(site.config("main"), good).unwrap();
    site.ok(&["config", "check"]);
}

fn is_a_store(s3: S3) {
    let mut site = Site::new();
    site.url = "s3://bucket/xds".to_owned();
    for name in ["main", "spare"] {
        site.main(name, "key");
        let text = fs::read_to_string(site.config(name)).unwrap();
        let url = "url = \"s3://bucket/xds\"\n";
        fs::write(site.config(name), text.replace(url, &format!("{url}{}\n", s3.options()))).unwrap();
    }
    let shown = site.ok(&["config", "show"]).stdout;
    assert!(!shown.contains(s3::SECRET_KEY) && shown.contains("store.url"), "{shown}");
    site.fails(&["publish"], 41, "store init");
    site.ok(&["store", "check"]);
    site.ok(&["store", "init"]);
    for n in 0..20 {
        site.write(&format!("moh/{n}.wav"), &format!("file {n}"));
    }
    site.ok(&["publish"]);
    site.write("moh/3.wav", "another");
    let published = site.ok(&["publish", "--json"]).json();
    assert_eq!(published["store"]["seq"], 2);
    let verified = site.ok(&["store", "verify", "--json"]).json();
    assert_eq!(verified["verify"]["publications"], 2, "{verified}");
    assert_eq!(site.run_as("spare", &["store", "claim"]).code, Some(4));
    site.ok(&["store", "gc"]);

    // A node pulls from it, and what it records there comes to Main.
    let node = Follower::new(&site, &s3.options());
    node.ok();
    assert_eq!(fs::read_to_string(node.path("moh/3.wav")).unwrap(), "another");
    fs::write(node.path("recordings/greeting.wav"), "from the node").unwrap();
    node.ok();
    site.ok(&["publish"]);
    assert_eq!(fs::read_to_string(site.path("recordings/greeting.wav")).unwrap(), "from the node");
    node.ok();

    drop(s3);
    let gone = site.run(&["publish"]);
    assert_eq!(gone.code, Some(41), "{}", gone.stderr);
    assert!(!gone.stderr.contains(s3::SECRET_KEY), "{}", gone.stderr);
}

#[test]
fn a_bucket_of_moto_is_a_store() {
    is_a_store(S3::moto());
}

#[test]
fn a_bucket_of_s3s_fs_is_a_store() {
    is_a_store(S3::s3s_fs());
}

#[test]
fn a_bucket_asks_for_the_right_key() {
    let s3 = S3::s3s_fs();
    let mut site = Site::new();
    site.url = "s3://bucket/xds".to_owned();
    site.main("main", "key");
    let text = fs::read_to_string(site.config("main")).unwrap();
    let url = "url = \"s3://bucket/xds\"\n";
    let options = s3.options().replace(s3::SECRET_KEY, "another-secret");
    fs::write(site.config("main"), text.replace(url, &format!("{url}{options}\n"))).unwrap();
    for command in ["check", "init"] {
        let refused =
            site.fails(&["store", command], 41, "403 Forbidden (SignatureDoesNotMatch); see the credentials");
        assert!(!refused.stderr.contains("another-secret"), "{}", refused.stderr);
    }
}

/// A node that follows the store of a [`Site`], with directories of its own.
struct Follower<'a> {
    site: &'a Site,
}

impl Follower<'_> {
    /// `options` are those of its `[store]`.
    fn new<'a>(site: &'a Site, options: &str) -> Follower<'a> {
        let node = Follower { site };
        for directory in ["moh", "recordings"] {
            fs::create_dir_all(node.path(directory)).unwrap();
        }
        let key = node.path("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let public = fs::read_to_string(node.path("key.pub")).unwrap();
        // On Main, the node keeps its directories elsewhere, and has this key.
        let text = fs::read_to_string(site.config("main")).unwrap().replace(NODE_KEY, public.trim());
        let paths = format!(
            "paths = {{ moh = {:?}, recordings = {:?} }}\n",
            node.path("moh"),
            node.path("recordings")
        );
        fs::write(site.config("main"), text + &paths).unwrap();
        site.ok(&["publish"]);
        let text = format!(
            "roots = [{:?}, {:?}]\nstate_dir = {:?}\n[store]\nurl = {:?}\n{options}\n[follow]\nname = \"mds1\"\nmain_key = {:?}\n\
             identity = {key:?}\n",
            node.path("moh"),
            node.path("recordings"),
            node.path("state"),
            site.url,
            site.path("key.pub"),
        );
        fs::write(node.path("node.toml"), text).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.path("mds1").join(name)
    }

    #[track_caller]
    fn ok(&self) {
        let mut command = self.site.command("main", &["follow", "--once"]);
        let ran = ran(command.env("XDS_SYNC_NODE_CONFIG", self.path("node.toml")));
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    }
}

/// The program in docs/store.md, as it stands there.
fn git_helper(site: &Site) -> String {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/store.md")).unwrap();
    let start = docs.find("```sh\n#!/bin/sh").expect("docs/store.md has a helper for git") + "```sh\n".len();
    let script = &docs[start..start + docs[start..].find("```").unwrap()];
    let repository = site.path("repository.git");
    let made = Command::new("git").args(["init", "-q", "--bare"]).arg(&repository).status().unwrap();
    assert!(made.success());
    let helper = site.path("xds-store-git");
    fs::write(&helper, script.replace("/srv/xds-store.git", repository.to_str().unwrap())).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    format!("exec:{}", helper.display())
}

#[test]
fn a_git_repository_is_a_store_by_the_program_of_the_documentation() {
    let mut site = Site::new();
    site.url = git_helper(&site);
    site.main("main", "key");
    site.main("spare", "key");
    site.ok(&["store", "check"]);
    site.fails(&["publish"], 41, "store init");
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    site.ok(&["publish"]);
    site.write("moh/a.wav", "two");
    site.ok(&["publish"]);
    site.ok(&["store", "verify"]);
    assert_eq!(site.run_as("spare", &["store", "claim"]).code, Some(4));
}

#[test]
fn the_service_publishes_what_changes() {
    let site = Site::new();
    site.ok(&["store", "init"]);
    site.write("moh/a.wav", "one");
    // With a /run of its own: the control socket of the service has one place on a host.
    let mut watch = Command::new("unshare");
    watch.args(["--mount", "sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"]);
    watch.arg(env!("CARGO_BIN_EXE_xds-sync")).args([
        "--config",
        site.config("main").to_str().unwrap(),
        "watch",
    ]);
    watch.env("HOME", site.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watch = Ended(watch.spawn().unwrap());
    wait::eventually("a publication", wait::LIMIT, || site.heads() == 1);
    site.write("moh/a.wav", "two");
    let digest = blake3::hash(b"two").to_hex().to_string();
    let is_there =
        |seq: u64| site.tree(seq, "moh").get("a.wav").is_some_and(|file| file["digest"] == digest.as_str());
    wait::eventually("the change", wait::LIMIT, || site.heads() > 1 && is_there(site.heads() as u64));
    // Nothing is published because of what was published; the run has the lock a little longer.
    let heads = site.heads();
    wait::eventually("an end of the run", wait::LIMIT, || site.run(&["publish"]).code == Some(0));
    assert_eq!(site.heads(), heads);
    let _ = watch.0.kill();
}

/// A process that does not outlive its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
