use super::*;

#[test]
fn a_workers_list_gives_user_address_and_paths() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("workers-list.txt");
    let text = |list: &Path| {
        format!(
            "[discovery]\nfile = {list:?}\n\
             [[directory]]\nname = \"apis\"\npath = \"/opt/wso2/server\"\n\
             [[directory]]\nname = \"tenants\"\npath = \"/opt/wso2/tenants\"\n"
        )
    };
    let config = config(&text(&list));
    fs::write(
        &list,
        "wso2@10.0.0.11:/srv/wso2/server\nwso2@10.0.0.11:/srv/wso2/tenants\n10.0.0.12\n\
         me@10.0.0.1:/opt/wso2/server\nalias\nnot a host\n",
    )
    .unwrap();
    let found = found(&config, &Answers::default());
    assert_eq!(told(&found), "10.0.0.11=10.0.0.11 10.0.0.12=10.0.0.12");
    let node = &found.nodes[0].node;
    assert_eq!(node.user.as_deref(), Some("wso2"));
    let roots = ["apis=/srv/wso2/server", "tenants=/srv/wso2/tenants"];
    let paths: Vec<_> = node.paths.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    assert_eq!(paths, roots);
    assert_eq!(found.nodes[1].node.user, None);
    let warning = format!("discovery.file ({}): line 6: expected [user@]host[:path]", list.display());
    assert_eq!((found.warnings, found.failures), (vec![warning], vec![]));
}

#[test]
fn paths_that_cannot_stand_side_by_side_are_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    let config = config(&format!(
        "[discovery]\nfile = {list:?}\n\
         [[directory]]\nname = \"a\"\npath = \"/opt/a\"\n[[directory]]\nname = \"b\"\npath = \"/opt/b\"\n"
    ));
    fs::write(&list, "10.0.0.11:/opt/b/a\n10.0.0.12\n").unwrap();
    let found = found(&config, &Answers::default());
    assert_eq!(told(&found), "10.0.0.12=10.0.0.12");
    assert!(found.warnings[0].contains("line 1 (10.0.0.11): /opt/b/a overlaps"), "{:?}", found.warnings);
}

#[test]
fn a_list_that_is_none_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    let config = config(&format!("[discovery]\nfile = {list:?}\n"));
    assert!(failure(&config).contains("opening it: No such file or directory"));
    fs::write(&list, "<html>\n<p>\n").unwrap();
    assert!(failure(&config).contains("none of what it says is a node: line 1: expected"));
    fs::write(&list, [0xff, 0xfe]).unwrap();
    assert!(failure(&config).contains("reading it"));
    fs::write(&list, "#".repeat(usize::try_from(LIMIT).unwrap() + 1)).unwrap();
    assert!(failure(&config).contains("more than"));
    let many: String = (0..=MOST).map(|n| format!("mds{n}\n")).collect();
    fs::write(&list, many).unwrap();
    assert!(failure(&config).contains("it names 10001 nodes"));
}
