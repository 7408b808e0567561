//! `config show`, and the example that is shipped.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use super::*;

#[test]
fn every_value_is_shown_with_its_origin() {
    let files = Files::new(&[(
        "config.toml",
        "[sync]\nparallel = 2\n[discovery]\npostgres = { url = \"postgresql://u:se@cret@db/x\" }\n[[node]]\nname = \"a\"\naddress = \"10.0.0.1\"",
    )]);
    let mut sources = files.sources();
    sources.env = vec![("XDS_SYNC_SYNC_TIMEOUT".to_owned(), "9s".to_owned())];
    let shown = load(&sources).unwrap().show().join("\n");
    let shown = files.plain(&shown);
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
fn values_are_shown_in_toml_whoever_gave_them() {
    let text = "[ssh]\noptions = [\n  \"A=\\\"b\\\"\",\n]\n[discovery.postgres]\nurl = \"postgresql:///x\"\nquery = \"\"\"\nSELECT a,\n\tb\"\"\"\n\
                [[node]]\nname = \"a\"\naddress = \"a\"\npaths = { moh = \"/srv/moh\" }";
    let files = Files::new(&[("config.toml", text)]);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut sources = files.sources();
    sources.env = vec![pair("XDS_SYNC_SYNC_PARALLEL", "4"), pair("XDS_SYNC_SYNC_TRASH_KEEP", "7d")];
    let shown = |sources: &Sources| {
        let shown = load(sources).unwrap().show();
        let shown: Vec<_> = shown.into_iter().filter(|line| !line.ends_with("# default")).collect();
        files.plain(&shown.join("\n"))
    };
    insta::assert_snapshot!(shown(&sources), @r#"
    ssh.options = ["A=\"b\""]  # config.toml:2
    sync.parallel = 4  # environment
    sync.trash_keep = "7d"  # environment
    discovery.postgres.url = "postgresql:///x"  # config.toml:6
    discovery.postgres.query = "SELECT a,\n\tb"  # config.toml:7
    node.a.name = "a"  # config.toml:11
    node.a.address = "a"  # config.toml:12
    node.a.paths.moh = "/srv/moh"  # config.toml:13
    "#);
    sources.env = vec![pair("XDS_SYNC_SSH_OPTIONS", "A=b, C=d")];
    sources.overrides = vec![pair("sync.parallel", "3")];
    insta::assert_snapshot!(shown(&sources), @r#"
    ssh.options = ["A=b", "C=d"]  # environment
    sync.parallel = 3  # flag
    discovery.postgres.url = "postgresql:///x"  # config.toml:6
    discovery.postgres.query = "SELECT a,\n\tb"  # config.toml:7
    node.a.name = "a"  # config.toml:11
    node.a.address = "a"  # config.toml:12
    node.a.paths.moh = "/srv/moh"  # config.toml:13
    "#);
}

#[test]
fn the_values_shown_are_a_configuration_again() {
    let text = fs::read_to_string("docs/config.example.toml").unwrap();
    let shown = load(&Files::new(&[("config.toml", &uncommented(&text))]).sources()).unwrap().show();
    for line in shown {
        let (_, value) = line.split_once(" = ").unwrap();
        let parsed = toml_edit::DocumentMut::from_str(&format!("value = {value}"));
        assert!(parsed.is_ok(), "{line}: {parsed:?}");
    }
}

/// The example with all that is commented out in it.
fn uncommented(text: &str) -> String {
    let is_table = |line: &str| line.starts_with("# [");
    let line = |line: &str| match line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) {
        Some((key, _)) if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            line[2..].to_owned()
        }
        _ if is_table(line) => line[2..].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// `node.mds1.user` and `node.mds2.user` are one key.
fn keys(shown: &[String]) -> BTreeSet<String> {
    let key = |line: &String| {
        let key = line.split(" = ").next().unwrap();
        match key.split_once('.').unwrap() {
            (list @ ("node" | "directory"), rest) => format!("{list}.{}", rest.split_once('.').unwrap().1),
            _ => key.to_owned(),
        }
    };
    shown.iter().map(key).collect()
}

#[test]
fn the_shipped_example_has_every_key() {
    let text = uncommented(&fs::read_to_string("docs/config.example.toml").unwrap());
    let loaded = load(&Files::new(&[("config.toml", &text)]).sources()).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    let typed: Vec<_> = loaded.show().into_iter().filter(|line| !line.ends_with("# default")).collect();
    assert_eq!(keys(&typed), keys(&loaded.show()));
    // Those without a built-in value are in no list of defaults: here they are, one by one.
    let Config { hub, discovery, nodes, directories, .. } = loaded.config;
    assert!(hub.certificate.is_some() && hub.key.is_some());
    let http = discovery.http.unwrap();
    assert!(http.headers_file.is_some() && http.ca.is_some());
    assert!(discovery.postgres.is_some() && discovery.file.is_some());
    let node = &nodes[0];
    assert!(node.user.is_some() && node.port.is_some() && node.identity.is_some() && !node.paths.is_empty());
    assert!(directories[0].owner.is_some());
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

#[test]
fn secrets_that_everybody_may_read_are_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = "[discovery.postgres]\nurl = \"postgresql://u:p@db/x\"\n\
                  [discovery.http]\nurl = \"https://db/x\"\nheaders_file = \"HERE/headers\"\n\
                  [hub]\ncertificate = \"HERE/c\"\nkey = \"HERE/key\"\ntoken_file = \"HERE/token\"\n";
    let files = Files::new(&[("config.toml", ""), ("headers", ""), ("key", ""), ("token", "")]);
    let path = |name: &str| files.0.path().join(name);
    fs::write(path("config.toml"), secret.replace("HERE", &files.0.path().display().to_string())).unwrap();
    let mode = |mode| {
        for name in ["config.toml", "headers", "key", "token"] {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    mode(0o644);
    assert_eq!(
        files.warnings(),
        "config.toml:2: discovery.postgres.url: holds a secret, and everybody may read this file; put it into \
         conf.d/secrets.toml with mode 0600\n\
         config.toml:5: discovery.http.headers_file: everybody may read headers; chmod 600 it\n\
         config.toml:8: hub.key: everybody may read key; chmod 600 it\n\
         config.toml:9: hub.token_file: everybody may read token; chmod 600 it"
    );
    mode(0o640);
    assert_eq!(files.warnings(), "");
    // Without a secret in it, the file may be anybody's.
    fs::write(path("config.toml"), "[discovery.postgres]\nurl = \"postgresql:///asterisk\"\n").unwrap();
    mode(0o644);
    assert_eq!(files.warnings(), "");
}
