//! Uploads that are not where they were put, and numbers that begin anew.

use std::fs;

use super::{Both, Site};
use crate::follow::Asked;
use crate::report::Report;
use crate::store::names::Area;

/// As where the store of a Main is lost and made anew.
fn lose_uploads(site: &Site) {
    fs::remove_dir_all(site.path("store/v1/nodes")).unwrap();
}

/// A node that follows, and of whose recordings Main has taken in one.
fn with_one_taken_in() -> Both {
    let mut both = Both::new("");
    both.set_main("m.wav", "m");
    both.publish();
    both.0.follow();
    both.0.record("one.wav", "1");
    both.0.follow();
    both.publish();
    both
}

#[test]
fn what_a_store_has_lost_before_main_took_it_in_is_uploaded_once_more() {
    let mut both = with_one_taken_in();
    both.0.record("two.wav", "2");
    both.0.follow();
    lose_uploads(&both.0);
    both.0.record("three.wav", "3");
    both.set_main("m.wav", "new");
    both.publish();
    let passed = both.0.pass();
    let told = passed.report.problems.iter().find(|problem| problem.detail.contains("from upload 2 on"));
    assert!(told.is_some_and(|problem| !problem.fails), "{:?}", passed.report.problems);
    both.publish();
    both.0.follow();
    for (name, content) in [("m.wav", "new"), ("one.wav", "1"), ("two.wav", "2"), ("three.wav", "3")] {
        assert_eq!(both.main(name).as_deref(), Some(content), "{name} on Main");
        assert_eq!(both.0.has(&format!("rec/{name}")).as_deref(), Some(content), "{name} on the node");
    }
    assert_eq!((both.0.standing().uploaded, both.0.standing().taken), (2, 2));
}

#[test]
fn a_main_that_remembers_nothing_goes_on_from_what_is_published() {
    let mut both = with_one_taken_in();
    both.0.follow();
    fs::remove_file(both.0.path("main-rec/one.wav")).unwrap();
    both.publish();
    both.0.follow();
    assert_eq!((both.0.has("rec/one.wav"), both.0.taken), (None, 1));
    // The Main that has done it is gone, and so is all that it remembered.
    fs::remove_dir_all(both.0.path("main-state")).unwrap();
    both.publish();
    both.0.follow();
    assert_eq!((both.main("one.wav"), both.0.has("rec/one.wav"), both.0.taken), (None, None, 1));
}

#[test]
fn numbers_of_another_store_do_not_say_that_main_has_what_is_here() {
    let mut site = Site::new();
    site.taken = 7;
    site.publish();
    site.follow();
    assert_eq!(site.standing().taken, 7);
    // Where a store was made anew, numbers begin anew.
    site.taken = 0;
    site.publish();
    site.follow();
    assert_eq!(site.standing().taken, 0);
}

#[test]
fn main_says_which_upload_has_gone() {
    let mut both = Both::new("");
    both.publish();
    both.0.follow();
    for name in ["one.wav", "two.wav"] {
        both.0.record(name, name);
        both.0.follow();
    }
    both.0.objects.delete(&Area::node("mds1").unwrap().upload(1)).unwrap();
    let error = told(&both.take_in());
    assert!(error.as_deref().is_some_and(|error| error.contains("has gone from the store")), "{error:?}");
    both.set_main("m.wav", "m");
    both.publish();
    both.0.follow();
    assert_eq!((told(&both.take_in()), both.main("one.wav").as_deref()), (None, Some("one.wav")));
}

#[test]
fn main_says_that_what_waits_holds_up_what_comes_after_it() {
    let mut both = Both::new("conflict = 'manual'\n");
    both.publish();
    both.0.follow();
    both.set_main("a.wav", "main's");
    for number in 1..=10 {
        both.0.record(if number == 1 { "a.wav" } else { "b.wav" }, &format!("take {number}"));
        both.0.follow();
    }
    let error = told(&both.take_in());
    assert!(
        error.as_deref().is_some_and(|error| error.contains("none of the 2 after them is taken in")),
        "{error:?}"
    );
}

/// What Main says of the node's following.
fn told(report: &Report) -> Option<String> {
    report.nodes[0].follows.as_ref().unwrap().error.clone()
}

#[test]
fn one_upload_that_somebody_has_removed_is_put_back_as_it_was_signed() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    for name in ["one.wav", "two.wav"] {
        site.record(name, name);
        site.follow();
    }
    let name = Area::node("mds1").unwrap().upload(1);
    let signed = site.objects.get(&name, 1 << 20).unwrap();
    site.objects.delete(&name).unwrap();
    site.set("moh", "a.wav", b"new");
    site.publish();
    site.follow();
    assert_eq!(site.objects.get(&name, 1 << 20).unwrap(), signed);
}

#[test]
fn a_dry_run_without_what_was_uploaded_plans_no_deletion() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    site.record("one.wav", "1");
    site.follow();
    lose_uploads(&site);
    site.publish();
    let follower = site.follower();
    let asked = Asked { dry_run: true, ..Asked::default() };
    let passed = follower.pass(&follower.state().unwrap(), &asked).unwrap();
    assert!(passed.report.changes.is_empty() && passed.exit_code == 41, "{:?}", passed.report);
    site.follow();
    assert_eq!((site.has("rec/one.wav").as_deref(), site.upload(1).len()), (Some("1"), 1));
}
