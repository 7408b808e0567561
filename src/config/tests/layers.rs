//! What lies over what.

use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
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
    assert!(load(&named).unwrap_err().to_string().contains("config.toml: there is no such file"));
}

#[test]
fn what_a_later_layer_lies_over_is_checked_all_the_same() {
    let files = Files::new(&[
        (
            "config.toml",
            "[sync]\nparallel = 0\n[hub]\nlisten = \"nowhere\"\ncertificate = \"/a\"\n[discovery.postgres]\nurl = \"x\"",
        ),
        (
            "conf.d/a.toml",
            "[sync]\nparallel = 2\n[hub]\nlisten = \"127.0.0.1:1\"\ncertificate = \"/b\"\nkey = \"/k\"",
        ),
        ("conf.d/b.toml", "[sync]\nparallel = 3\n[discovery.postgres]\nurl = \"postgresql:///b\""),
    ]);
    insta::assert_snapshot!(files.mistakes(), @r#"
    config.toml:2: sync.parallel: expected a number from 1 to 1024
    config.toml:4: hub.listen: expected ADDRESS:PORT such as "127.0.0.1:8443", found 'nowhere'
    config.toml:7: discovery.postgres.url: expected a URL such as "postgresql://user@host/asterisk"
    "#);
}

#[test]
fn a_file_is_judged_as_it_would_be() {
    let files = Files::new(&[("config.toml", "[[node]]\nname = \"a\"\naddress = \"a\"")]);
    let would_be = |text: &str| {
        let path = files.sources().file.with_file_name("conf.d").join("nodes.toml");
        load(&Sources { replaced: Some((path, text.as_bytes().to_vec())), ..files.sources() })
    };
    assert_eq!(would_be("[[node]]\nname = \"b\"\naddress = \"b\"").unwrap().config.nodes.len(), 2);
    assert!(would_be("[[node]]\nname = \"b\"\naddress = \"a\"").is_err());
    assert_eq!(load(&files.sources()).unwrap().config.nodes.len(), 1);
}

#[test]
fn tables_are_laid_over_key_by_key() {
    let files = Files::new(&[
        ("config.toml", "[discovery.postgres]\nurl = \"postgresql:///a\"\nquery = \"SELECT 1\""),
        ("conf.d/a.toml", "[discovery]\npostgres = { url = \"postgresql:///b\" }"),
    ]);
    let mut sources = files.sources();
    let postgres = |sources: &Sources| load(sources).unwrap().config.discovery.postgres.unwrap();
    let found = postgres(&sources);
    assert_eq!((&*found.url, &*found.query), ("postgresql:///b", "SELECT 1"));
    sources.env = pairs(&[("XDS_SYNC_DISCOVERY_POSTGRES_URL", "postgresql:///c")]);
    assert_eq!(postgres(&sources).url, "postgresql:///c");
    sources.overrides = pairs(&[("discovery.postgres.url", "postgresql:///d")]);
    assert_eq!(postgres(&sources).url, "postgresql:///d");
    assert_eq!(postgres(&sources).query, "SELECT 1");
}

#[test]
fn the_environment_and_flags_name_keys() {
    let files = Files::new(&[]);
    let mut sources = files.sources();
    sources.env = pairs(&[
        ("XDS_SYNC_CONFIG", "/x"),
        ("XDS_SYNC_SNYC_PARALLEL", "5"),
        ("XDS_SYNC_NODE_NAME", "a"),
        ("XDS_SYNC_SYNC", "5"),
        ("XDS_SYNC_SYNC_PARALLEL", "many"),
        ("XDS_SYNC_DISCOVERY_POSTGRES_QUERY", "SELECT 1"),
    ]);
    sources.overrides = pairs(&[("sync.timout", "1s"), ("parallel", "2")]);
    insta::assert_snapshot!(load(&sources).unwrap_err().to_string(), @r#"
    XDS_SYNC_SNYC_PARALLEL: names no section and key as XDS_SYNC_SYNC_PARALLEL does (did you mean 'sync'?)
    XDS_SYNC_NODE_NAME: names no section and key as XDS_SYNC_SYNC_PARALLEL does
    XDS_SYNC_SYNC: names no section and key as XDS_SYNC_SYNC_PARALLEL does
    XDS_SYNC_SYNC_PARALLEL: sync.parallel: expected a number, found 'many'
    XDS_SYNC_DISCOVERY_POSTGRES_QUERY: discovery.postgres.url is missing; add a line url = "…"
    parallel: names no section and key as sync.parallel does
    sync.timout: unknown key sync.timout (did you mean 'timeout'?)
    "#);
}

#[test]
fn symlinks_that_lead_nowhere_are_mistakes() {
    let files = Files::new(&[("conf.d/b.toml", "")]);
    symlink("/nonexistent", files.0.path().join("config.toml")).unwrap();
    symlink("/nonexistent", files.0.path().join("conf.d/a.toml")).unwrap();
    insta::assert_snapshot!(files.mistakes(), @r"
    config.toml:1: cannot be read: No such file or directory
    conf.d/a.toml:1: cannot be read: No such file or directory
    ");
}

#[test]
fn what_cannot_be_read_is_a_mistake() {
    let files = Files::new(&[("conf.d/a.toml/x", "")]);
    fs::write(files.0.path().join("config.toml"), b"[sync]\n\nparallel = \"\xff\"").unwrap();
    insta::assert_snapshot!(files.mistakes(), @r"
    config.toml:3: not UTF-8, which TOML has to be
    conf.d/a.toml:1: cannot be read: Is a directory
    ");
    let files = Files::new(&[("conf.d", "a file")]);
    assert_eq!(files.mistakes(), "conf.d:1: cannot be read: Not a directory");
}
