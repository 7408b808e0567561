//! Layers, mistakes and what is shown.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Files(dir)
    }

    fn sources(&self) -> Sources {
        Sources {
            file: self.0.path().join("config.toml"),
            home: "/root".into(),
            host_name: "pbx".to_owned(),
            ..Sources::default()
        }
    }

    /// Mistakes, without the directory that the files are in.
    fn mistakes(&self) -> String {
        let mistakes = load(&self.sources()).err().unwrap_or_default().to_string();
        mistakes.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn mistakes(text: &str) -> String {
    Files::new(&[("config.toml", text)]).mistakes()
}

fn config(text: &str) -> Config {
    load(&Files::new(&[("config.toml", text)]).sources()).unwrap().config
}

macro_rules! mistake {
    ($($name:ident: $text:expr => $message:literal;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(mistakes($text), $message);
        }
    )*};
}

mistake! {
    none: "" => "";
    not_toml: "[sync]\nparallel = = 2" => "config.toml:2: not valid TOML: extra `=`, expected nothing";
    unknown_key: "[sync]\n\nparalel = 2" => "config.toml:3: unknown key sync.paralel (did you mean 'parallel'?)";
    unknown_section: "[snyc]\nparallel = 2" => "config.toml:2: unknown section [snyc] (did you mean 'sync'?)";
    no_section: "parallel = 2" => "config.toml:1: 'parallel' stands outside of any section";
    one_bracket: "[node]\nname = \"x\"" => "config.toml:1: write [[node]], with two brackets";
    wrong_type: "[sync]\nparallel = \"many\"" => "config.toml:2: sync.parallel: expected a number, found a string";
    zero_parallel: "[sync]\nparallel = 0" => "config.toml:2: sync.parallel: expected a number from 1 to 1024";
    bad_duration: "[sync]\ntimeout = \"soon\"" => "config.toml:2: sync.timeout: expected a duration such as \"30s\" or \"15min\", found 'soon'";
    relative_path: "[ssh]\nidentity = \"key\"" => "config.toml:2: ssh.identity: expected an absolute path, found 'key'";
    bad_port: "[ssh]\nport = 0" => "config.toml:2: ssh.port: expected a port from 1 to 65535";
    bad_host_keys: "[ssh]\nhost_keys = \"no\"" => "config.toml:2: ssh.host_keys: expected one of \"accept-new\", \"strict\", found 'no'";
    bad_cron: "[schedule]\ncron = \"@hourly\"" => "config.toml:2: schedule.cron: expected five fields as in crontab(5), such as \"*/15 * * * *\", found '@hourly'";
    multi_line_option: "[ssh]\noptions = [\"A=b\\nC=d\"]" => "config.toml:2: ssh.options: must be one line";
    certificate_without_key: "[hub]\ncertificate = \"/a\"" => "config.toml:2: hub.certificate needs the key that belongs to it";
    node_without_address: "[[node]]\nname = \"a\"" => "config.toml:1: node.a.address is missing";
    node_name: "[[node]]\nname = \"../a\"\naddress = \"a\"" => "config.toml:2: node.../a.name: a name has letters, digits, '.', '_' and '-' only, found '../a'";
    node_address: "[[node]]\nname = \"a\"\naddress = \"-oProxyCommand=x\"" => "config.toml:3: node.a.address: expected a host name or an IP address, found '-oProxyCommand=x'";
    node_twice: "[[node]]\nname = \"a\"\naddress = \"b\"\n[[node]]\nname = \"a\"\naddress = \"c\"" => "config.toml:5: there is a node 'a' already, at config.toml:2";
    address_twice: "[[node]]\nname = \"a\"\naddress = \"b\"\n[[node]]\nname = \"c\"\naddress = \"b\"" => "config.toml:6: node 'a' has the address b already";
    node_paths: "[[node]]\nname = \"a\"\naddress = \"b\"\npaths = { mho = \"/x\" }" => "config.toml:4: paths: there is no directory 'mho' (did you mean 'moh'?)";
    directory_without_path: "[[directory]]\nname = \"a\"" => "config.toml:1: directory.a.path is missing";
    directory_path: "[[directory]]\nname = \"a\"\npath = \"x\"" => "config.toml:3: directory.a.path: expected an absolute path, found 'x'";
    directory_twice: "[[directory]]\nname = \"a\"\npath = \"/x\"\n[[directory]]\nname = \"a\"\npath = \"/y\"" => "config.toml:5: there is a directory 'a' already, at config.toml:2";
    same_root: "[[directory]]\nname = \"a\"\npath = \"/x\"\n[[directory]]\nname = \"b\"\npath = \"/x/\"\ndelete=\"keep\"" => "config.toml:6: directory 'a' has the path /x already";
    overlap: "[[directory]]\nname = \"a\"\npath = \"/x\"\n[[directory]]\nname = \"b\"\npath = \"/x/y\"" => "config.toml:6: /x/y overlaps directory 'a' (/x) under the same rules; configure only the outer one";
    bad_glob: "[[directory]]\nname = \"a\"\npath = \"/x\"\nexclude = [\"[\"]" => "config.toml:4: directory.a.exclude: not a valid pattern: error parsing glob '[': unclosed character class; missing ']'";
    reload_command: "[[directory]]\nname = \"a\"\npath = \"/x\"\nreload = [\"asterisk -rx x\"]" => "config.toml:4: directory.a.reload: expected the name of a reload such as \"dialplan\", not a command, found 'asterisk -rx x'";
    max_delete: "[[directory]]\nname = \"a\"\npath = \"/x\"\nmax_delete = \"lots\"" => "config.toml:4: directory.a.max_delete: expected a percentage such as \"50%\" or a number of files such as \"200\"";
    bad_owner: "[[directory]]\nname = \"a\"\npath = \"/x\"\nowner = \"asterisk\"" => "config.toml:4: directory.a.owner: expected \"user:group\" such as \"asterisk:www-data\", found 'asterisk'";
    discovery_url: "[discovery]\nhttp = { url = \"ftp://x\" }" => "config.toml:2: discovery.http.url: expected a URL that begins with https://, found 'ftp://x'";
    discovery_table: "[discovery]\npostgres = 3" => "config.toml:2: discovery.postgres: expected a table such as { … }, found a number";
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "[sync]\nparallel = 0\ntimout = \"1s\"\n[[node]]\nname = \"a\"\n[[directory]]\npath = \"x\"";
    insta::assert_snapshot!(mistakes(text), @r"
    config.toml:2: sync.parallel: expected a number from 1 to 1024
    config.toml:3: unknown key sync.timout (did you mean 'timeout'?)
    config.toml:6: directory.name is missing
    config.toml:7: directory.path: expected an absolute path, found 'x'
    config.toml:4: node.a.address is missing
    ");
}

#[test]
fn xivos_directories_are_built_in() {
    let config = config("");
    let all: Vec<_> =
        config.directories.iter().map(|directory| (&*directory.name, directory.direction)).collect();
    let push = Direction::Push;
    assert_eq!(all, [("dialplan", push), ("moh", push), ("sounds", push), ("recordings", Direction::Both)]);
    assert_eq!(config.directories[0].reload, ["dialplan"]);
    assert_eq!(config.directories[1].reload, ["moh"]);
    assert_eq!(config.directories[3].settle, Duration::from_secs(10));
    let spec = config.scan_spec(&config.directories[2], None, false);
    assert!(spec.other_roots.contains(&"/var/lib/xivo/sounds/recordings".into()));
}

#[test]
fn a_configured_directory_has_just_what_is_written() {
    let config = config("[[directory]]\nname = \"dialplan\"\npath = \"/etc/asterisk/extensions_extra.d\"");
    assert_eq!(config.directories.len(), 1);
    assert_eq!(config.directories[0].reload, [""; 0]);
}

#[test]
fn later_layers_win_and_lists_add_up() {
    let files = Files::new(&[
        ("config.toml", "[sync]\nparallel = 2\ntimeout = \"5s\"\n[[node]]\nname = \"a\"\naddress = \"a\""),
        ("conf.d/20-b.toml", "[sync]\nparallel = 4\n[[node]]\nname = \"b\"\naddress = \"b\""),
        ("conf.d/10-c.toml", "[sync]\nparallel = 3\n[[node]]\nname = \"c\"\naddress = \"c\""),
        ("conf.d/README", "not TOML"),
    ]);
    let mut sources = files.sources();
    let loaded = load(&sources).unwrap().config;
    assert_eq!((loaded.sync.parallel, loaded.sync.timeout), (4, Duration::from_secs(5)));
    assert_eq!(loaded.nodes.iter().map(|node| &*node.name).collect::<Vec<_>>(), ["a", "c", "b"]);

    sources.env =
        vec![("XDS_SYNC_SYNC_PARALLEL".to_owned(), "5".to_owned()), ("HOME".to_owned(), "/x".to_owned())];
    assert_eq!(load(&sources).unwrap().config.sync.parallel, 5);
    sources.env.push(("XDS_SYNC_SSH_OPTIONS".to_owned(), "A=b, C=d".to_owned()));
    assert_eq!(load(&sources).unwrap().config.ssh.options, ["A=b", "C=d"]);
    sources.overrides = vec![("sync.parallel".to_owned(), "6".to_owned())];
    assert_eq!(load(&sources).unwrap().config.sync.parallel, 6);
    sources.env.push(("XDS_SYNC_SYNC_PARALEL".to_owned(), "5".to_owned()));
    let mistakes = load(&sources).unwrap_err().to_string();
    assert_eq!(mistakes, "XDS_SYNC_SYNC_PARALEL: unknown key sync.paralel (did you mean 'parallel'?)");
}

#[test]
fn a_missing_file_is_a_mistake_only_when_it_was_named() {
    let files = Files::new(&[]);
    assert!(load(&files.sources()).is_ok());
    let named = Sources { file_was_named: true, ..files.sources() };
    assert!(load(&named).unwrap_err().to_string().contains("config.toml:1: cannot be read"));
}

#[test]
fn every_value_is_shown_with_its_origin() {
    let files = Files::new(&[(
        "config.toml",
        "[sync]\nparallel = 2\n[discovery]\npostgres = { url = \"postgresql://u:se@cret@db/x\" }\n[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"",
    )]);
    let mut sources = files.sources();
    sources.env = vec![("XDS_SYNC_SYNC_TIMEOUT".to_owned(), "9s".to_owned())];
    let shown = load(&sources).unwrap().show().join("\n");
    let shown = shown.replace(&format!("{}/", files.0.path().display()), "");
    for line in [
        "main.name = \"pbx\"  # default",
        "sync.parallel = 2  # config.toml:2",
        "sync.timeout = \"9s\"  # environment",
        "discovery.postgres.url = \"postgresql://u:***@db/x\"  # config.toml:4",
        "node.a.address = \"10.0.0.1\"  # config.toml:7",
        "directory.moh.path = \"/var/lib/xivo/moh\"  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert!(!shown.contains("cret"), "{shown}");
}

#[test]
fn the_shipped_example_is_what_is_built_in() {
    let text = fs::read_to_string("docs/config.example.toml").unwrap();
    let mut example = config(&text);
    let built_in = config("");
    assert_eq!(example.main.host, "xivo.example.org");
    example.main = built_in.main.clone();
    let nodes: Vec<_> = example.nodes.drain(..).map(|node| node.name).collect();
    assert_eq!(nodes, ["mds1", "mds2"]);
    assert_eq!(example, built_in);
}
