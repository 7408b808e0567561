//! What a peer or a local user can make longer must not make a transfer grow with its square.

use super::super::trash::versions;
use super::*;
use crate::model::steps::assert_grows_with;

#[test]
fn a_commit_grows_with_its_actions_and_not_with_their_square() {
    let world_of = |length: usize, at: &dyn Fn(usize) -> String| {
        let world = World::new();
        for number in 0..length {
            world.write(at(number), "x");
        }
        world.scan();
        world
    };
    assert_grows_with("files that are deleted, and their versions", 200, |length| {
        let at = |number: usize| format!("{:02}/{number}", number % 20);
        let world = world_of(length, &at);
        let actions: Vec<Action> = (0..length).map(|number| world.delete(at(number))).collect();
        move || {
            assert!(world.commit(&actions).iter().all(|outcome| *outcome == Outcome::Done));
            let root = HeldRoot::open(world.dir.path()).unwrap();
            assert_eq!(versions(&root, &path("07")).unwrap().len(), length / 20);
        }
    });
    assert_grows_with("one path, again and again", 200, |length| {
        let world = world_of(1, &|_| "a".to_owned());
        let actions = vec![world.delete("a"); length];
        move || {
            let outcomes = world.commit(&actions);
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count(), 1);
        }
    });
}

#[test]
fn blobs_that_come_in_batches_do_not_have_the_stage_listed_for_each() {
    assert_grows_with("blobs in batches of ten", 400, |length| {
        let world = World::new();
        let contents: Vec<String> = (0..length).map(|number| format!("content {number}")).collect();
        let contents: Vec<&[u8]> = contents.iter().map(String::as_bytes).collect();
        let batches: Vec<Memory> = contents.chunks(10).map(Memory::of).collect();
        move || {
            for mut batch in batches {
                let wanted = batch.wanted();
                assert_eq!(world.stage(&wanted, &mut batch), vec![Ok(()); wanted.len()]);
            }
        }
    });
}
