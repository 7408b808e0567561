//! What an administrator does about what a guard stopped.

use super::words;
use super::{Guard, Halted};
use crate::model::RelPathBuf;

/// What an administrator does about a halt: sentences, with the commands in them where there are any.
pub(super) fn remedies(halted: &Halted) -> Vec<String> {
    let directory = words::name(&halted.directory);
    if let Some(token) = &halted.token {
        let accept = accepting(token);
        let run = if halted.of_follower { "follow --once" } else { "sync" };
        let examples: Vec<String> = halted.paths.iter().map(|path| path.for_people()).collect();
        let listed = match examples.as_slice() {
            [] => None,
            examples => {
                let examples = examples.join(", ");
                Some(format!("such as {examples}; all of them: xds-sync {run} -n -v {accept}"))
            }
        };
        let right = format!("if that is right: xds-sync {run} {accept}");
        return listed.into_iter().chain([right]).chain(if_not(halted, &directory)).collect();
    }
    vec![match halted.guard {
        Guard::RootMissing => "mount it, or put it back".to_owned(),
        Guard::RootUnmarked | Guard::RootReplaced => {
            format!("mount or restore it; if what is there now is right: xds-sync init --adopt {directory}")
        }
        Guard::RootUnusable => "make it a directory that root can read".to_owned(),
        Guard::NodeRootMissing => {
            "mount it there; if it is lost for good, make an empty one: the next run fills it".to_owned()
        }
        Guard::NodeRootReplaced => "put the right one back there, or run again for a token".to_owned(),
        Guard::FreeSpace => "make room there; the next run goes on".to_owned(),
        Guard::Emptied | Guard::MaxDelete | Guard::MaxChange | Guard::MaxAdd => {
            "restore the files, or run again for a token".to_owned()
        }
    }]
}

/// The same where files are not named.
pub(super) fn in_short(halted: &Halted) -> Vec<String> {
    match &halted.token {
        Some(token) => vec![
            format!("if that is right: xds-sync sync {}", accepting(token)),
            "if it is not, or to see the files: xds-sync status".to_owned(),
        ],
        None => remedies(halted),
    }
}

fn accepting(token: &str) -> String {
    format!("--accept-deletes {}", words::name(token))
}

/// What to do if a plan that was halted is not what somebody wanted.
fn if_not(halted: &Halted, directory: &str) -> Option<String> {
    let restore = |path: &RelPathBuf| format!("xds-sync restore {directory} {}", quoted(&path.for_people()));
    match (halted.guard, halted.restore.as_slice()) {
        (Guard::Emptied | Guard::MaxDelete, [path]) => {
            Some(format!("if it is not, from the nodes, which still have it: {}", restore(path)))
        }
        (Guard::Emptied | Guard::MaxDelete, [first, more @ ..]) => {
            let more: Vec<String> = more.iter().map(|path| path.for_people()).collect();
            let (first, more) = (restore(first), more.join(", "));
            Some(format!("if it is not, from the nodes, which still have it: {first}, and likewise {more}"))
        }
        (Guard::Emptied | Guard::MaxDelete, []) => {
            Some("if it is not, put them back where they were deleted; the next run goes on".to_owned())
        }
        (Guard::NodeRootReplaced, _) => {
            Some("if it is not, put the right directory back there; the next run goes on".to_owned())
        }
        (Guard::MaxChange, _) => {
            Some("if it is not, put the right versions back on that node; the next run goes on".to_owned())
        }
        _ => None,
    }
}

/// An argument as it is typed in a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::samples;
    use super::*;

    fn told(halted: &Halted) -> String {
        remedies(halted).join("\n")
    }

    #[test]
    fn whoever_is_to_judge_deletions_sees_some_of_them_and_what_to_do_either_way() {
        let path = |path: &str| RelPathBuf::new(path.as_bytes()).unwrap();
        let halted = samples::halted("sounds", Guard::MaxDelete);
        insta::assert_snapshot!(told(&halted), @"
        such as jazz/a.wav, jazz/b.wav; all of them: xds-sync sync -n -v --accept-deletes moh-4f2a
        if that is right: xds-sync sync --accept-deletes moh-4f2a
        if it is not, from the nodes, which still have it: xds-sync restore sounds jazz
        ");
        let several = Halted { restore: vec![path("it's"), path("fr")], ..halted.clone() };
        assert!(
            told(&several).ends_with(r"xds-sync restore sounds 'it'\''s', and likewise fr"),
            "{}",
            told(&several)
        );
        let on_node = Halted { restore: Vec::new(), ..halted };
        assert!(
            told(&on_node)
                .ends_with("\nif it is not, put them back where they were deleted; the next run goes on")
        );
    }

    #[test]
    fn each_guard_has_a_remedy() {
        use Guard::{Emptied, FreeSpace, MaxAdd, MaxChange, MaxDelete, NodeRootMissing, NodeRootReplaced};
        use Guard::{RootMissing, RootReplaced, RootUnmarked, RootUnusable};
        for guard in [
            RootMissing,
            RootUnmarked,
            RootReplaced,
            RootUnusable,
            Emptied,
            MaxDelete,
            MaxChange,
            MaxAdd,
            FreeSpace,
            NodeRootMissing,
            NodeRootReplaced,
        ] {
            let halted = samples::halted("moh", guard);
            assert!(told(&halted).contains("xds-sync sync --accept-deletes moh-4f2a"), "{guard:?}");
            let on_follower = Halted { of_follower: true, ..halted.clone() };
            let told_there = told(&on_follower);
            assert!(told_there.contains("xds-sync follow --once --accept-deletes moh-4f2a"), "{guard:?}");
            assert!(!told_there.contains("xds-sync sync"), "{told_there}");
            let text = told(&Halted { token: None, ..halted });
            let adopts = matches!(guard, RootUnmarked | RootReplaced);
            assert_eq!(text.contains("xds-sync init --adopt moh"), adopts, "{guard:?}: {text}");
        }
    }
}
