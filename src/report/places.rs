//! Problems as lines for people: what is the same in several directories or on several nodes is one line.

use super::words;
use super::{Problem, Stage};
use crate::model::RelPathBuf;

/// One problem, and where it is the same.
pub(super) struct Shared<'r> {
    pub(super) problem: &'r Problem,
    nodes: Vec<Option<&'r str>>,
    directories: Vec<Option<&'r str>>,
}

type Same<'r> = (Stage, bool, Option<&'r RelPathBuf>, &'r str);

fn same(problem: &Problem) -> Same<'_> {
    (problem.stage, problem.fails, problem.path.as_ref(), &problem.detail)
}

/// Each problem once, in the order in which it came first.
pub(super) fn shared<'r>(problems: impl IntoIterator<Item = &'r Problem>) -> Vec<Shared<'r>> {
    let mut of_nodes: Vec<Shared<'r>> = Vec::new();
    for problem in problems {
        let (node, directory) = (problem.node.as_deref(), problem.directory.as_deref());
        let known =
            of_nodes.iter_mut().find(|known| same(known.problem) == same(problem) && known.nodes == [node]);
        match known {
            Some(known) if !known.directories.contains(&directory) => known.directories.push(directory),
            Some(_) => {}
            None => of_nodes.push(Shared { problem, nodes: vec![node], directories: vec![directory] }),
        }
    }
    let mut all: Vec<Shared<'r>> = Vec::new();
    for one in of_nodes {
        let known = all
            .iter_mut()
            .find(|known| same(known.problem) == same(one.problem) && known.directories == one.directories);
        match known {
            Some(known) => known.nodes.extend(one.nodes),
            None => all.push(one),
        }
    }
    all
}

impl Shared<'_> {
    /// `commit mds1, mds2: recordings: monitor/2.wav: No space left on device`.
    pub(super) fn words(&self) -> String {
        let names = |names: &[Option<&str>]| {
            let names: Vec<String> = names.iter().flatten().map(|name| words::name(name)).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let path = self.problem.path.as_ref().map(|path| path.for_people());
        let place = [names(&self.nodes), names(&self.directories), path];
        words::problem(self.problem, &place.into_iter().flatten().collect::<Vec<_>>().join(": "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::problem;
    use super::*;

    #[test]
    fn what_is_the_same_in_several_places_is_told_once() {
        let at = |node: &str, directory: &str, detail: &str| Problem {
            node: (!node.is_empty()).then(|| node.to_owned()),
            directory: (!directory.is_empty()).then(|| directory.to_owned()),
            detail: detail.to_owned(),
            ..problem(Stage::Scan)
        };
        let problems = [
            at("mds1", "moh", "merging without a base"),
            at("mds1", "sounds", "merging without a base"),
            at("", "", "full"),
            at("mds2", "moh", "merging without a base"),
            at("mds2", "sounds", "merging without a base"),
            at("mds3", "moh", "merging without a base"),
            at("mds3", "moh", "another"),
        ];
        let lines: Vec<String> = shared(&problems).iter().map(Shared::words).collect();
        assert_eq!(
            lines,
            [
                "scan mds1, mds2: moh, sounds: merging without a base",
                "scan: full",
                "scan mds3: moh: merging without a base",
                "scan mds3: moh: another",
            ]
        );
    }
}
