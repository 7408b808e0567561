//! What counts of several answers, and of earlier ones.

use super::*;

/// A workers-list, and a configuration that reads it.
struct List {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    config: Config,
}

impl List {
    fn new(more: &str) -> List {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let config = config(&format!("[discovery]\nfile = {path:?}\n{more}"));
        List { _dir: dir, path, config }
    }

    fn says(&self, text: &str) -> &List {
        fs::write(&self.path, text).unwrap();
        self
    }

    fn found(&self, last: &Answers) -> Discovered {
        found(&self.config, last)
    }
}

#[test]
fn without_a_source_there_is_nothing() {
    let found = found(&config(""), &Answers::default());
    assert!(found.nodes.is_empty() && found.failures.is_empty() && found.answers.0.is_empty());
}

#[test]
fn a_configured_node_wins_by_name_and_by_address() {
    let list = List::new("[[node]]\nname = \"MDS1\"\naddress = \"mds1.example.org\"\nlabels = [\"a\"]\n");
    let found = list.says("mds2\nMDS1\nmds1.EXAMPLE.org\n").found(&Answers::default());
    assert_eq!((told(&found), found.nodes[0].source), ("mds2=mds2".to_owned(), "file"));
    assert!(found.warnings.is_empty() && found.failures.is_empty());
}

#[test]
fn the_last_good_answer_stands_in_for_a_source_that_fails() {
    let list = List::new("");
    let good = list.says("root@mds1\nmds2\n").found(&Answers::default());
    let at = "2026-01-02T03:04:05Z";
    assert_eq!(good.answers.0["file"].at, at);
    assert_eq!(good.nodes[0].last_good, None);

    for broken in ["<html>", "mds1 mds2"] {
        let found = list.says(broken).found(&good.answers);
        assert_eq!(told(&found), told(&good), "{broken}");
        assert_eq!(found.nodes[0].node, good.nodes[0].node);
        assert!(found.nodes.iter().all(|node| node.last_good.as_deref() == Some(at)));
        assert_eq!(found.answers, good.answers, "it is kept");
        let expected = "; its answer of 2026-01-02 04:04:05 is used: mds1, mds2";
        assert!(found.failures[0].ends_with(expected), "{:?}", found.failures);
        assert_eq!(found.failures.len(), 1);
    }

    let found = list.says("mds3\n").found(&good.answers);
    assert_eq!((told(&found), found.failures.len()), ("mds3=mds3".to_owned(), 0), "it is back");
    assert_eq!(found.answers.0["file"].nodes.len(), 1);
}

#[test]
fn what_was_answered_before_is_held_against_the_present_configuration() {
    let good = List::new("").says("mds1\nmds2\nmds3\n").found(&Answers::default());
    let main = "[main]\nname = \"mds2\"\n[[node]]\nname = \"three\"\naddress = \"mds3\"\n";
    let found = List::new(main).found(&good.answers);
    assert_eq!(told(&found), "mds1=mds1");
}

#[test]
fn an_answer_that_names_nobody_any_more_is_told_and_nobody_is_a_node() {
    let list = List::new("");
    let first = list.says("# none yet\n").found(&Answers::default());
    assert!(first.failures.is_empty() && first.answers.0.is_empty(), "nobody was ever named");

    let good = list.says("mds1\nmds2\n").found(&Answers::default());
    let found = list.says("xivo\n").found(&good.answers);
    assert_eq!(told(&found), "");
    assert!(
        found.failures[0]
            .contains("names no node any more, where it named mds1, mds2 at 2026-01-02 04:04:05:")
    );
    assert_eq!(found.answers, good.answers, "until somebody says that it is right");

    let configured =
        "[[node]]\nname = \"one\"\naddress = \"mds1\"\n[[node]]\nname = \"mds2\"\naddress = \"two\"\n";
    let moved = List::new(configured);
    assert!(moved.says("").found(&good.answers).failures.is_empty(), "they are configured now");
}

#[test]
fn a_failure_without_an_earlier_answer_says_so() {
    let found = List::new("").found(&Answers::default());
    assert!(found.failures[0].ends_with("; there is no earlier answer to go by"), "{:?}", found.failures);
}

#[test]
fn the_answer_of_a_source_that_is_not_asked_any_more_is_forgotten() {
    let good = List::new("").says("mds1\n").found(&Answers::default());
    assert!(found(&config(""), &good.answers).answers.0.is_empty());
}
