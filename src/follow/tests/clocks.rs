//! A node whose clock is wrong: it says so, with both times, and does no harm.

use std::time::{Duration, SystemTime};

use super::Site;
use crate::follow::passed::Outcome;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_clock_that_is_ahead_makes_it_stale_and_it_says_what_time_it_takes_it_to_be() {
    let mut site = Site::new();
    site.publish();
    site.follow();
    site.set("moh", "a.wav", b"new");
    site.publish();
    let mut follower = site.follower();
    follower.machine.now = || SystemTime::now() + DAY;
    let passed = site.pass_of(&follower);
    let Outcome::Stale(why) = &passed.outcome else { panic!("{:?}", passed.outcome) };
    let tomorrow = crate::model::rfc3339(SystemTime::now() + DAY);
    let day = tomorrow.split('T').next().unwrap();
    assert!(
        why.contains("or a clock is wrong") && why.contains(&format!("by this node's clock it is {day}")),
        "{why}"
    );
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("one"));
    // Once it is right, all is.
    site.follow();
    assert_eq!(site.has("moh/a.wav").as_deref(), Some("new"));
}

#[test]
fn a_clock_that_is_behind_is_told_of_for_nothing_would_be_noticed_as_stale() {
    let mut site = Site::new();
    site.publish();
    let mut follower = site.follower();
    follower.machine.now = || SystemTime::now() - DAY - Duration::from_secs(90);
    let passed = site.pass_of(&follower);
    assert_eq!((passed.exit_code, &passed.outcome), (0, &Outcome::Current), "{:?}", passed.report);
    let told = passed.report.problems.iter().map(|problem| &*problem.detail).collect::<Vec<_>>().join("\n");
    assert!(told.contains("the clocks are wrong") && told.contains("1day 1m behind that"), "{told}");
    // Main's clock and this one, a little apart.
    follower.machine.now = || SystemTime::now() - Duration::from_secs(120);
    assert!(site.pass_of(&follower).report.problems.is_empty());
}
