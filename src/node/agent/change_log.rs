//! What a run changes on this node, for the node's own log.

use std::collections::BTreeMap;

use crate::model::{Action, Outcome, Step};
use crate::node::protocol::check;
use crate::node::seen::Visit;

/// Most changes of one run that are logged one by one. A first run has tens of thousands, and a log daemon that
/// drops lines at that rate would drop those of other programs too.
const MAX_CHANGES: usize = 1000;

/// Logs the changes of one run: the first ones line by line, the rest as counts.
#[derive(Debug, Default)]
pub(super) struct ChangeLog {
    run: String,
    logged: usize,
    /// How many more there are of each kind, by directory.
    rest: BTreeMap<(String, &'static str), u64>,
}

impl ChangeLog {
    pub(super) fn new(run: &str) -> ChangeLog {
        ChangeLog { run: run.to_owned(), ..ChangeLog::default() }
    }

    /// Logs the actions of a commit that were done, and counts them in `visit`.
    pub(super) fn commit(
        &mut self,
        directory: &str,
        actions: &[Action],
        outcomes: &[Outcome],
        visit: &mut Visit,
    ) {
        let done = actions.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_done());
        for (action, _) in done {
            visit.count(directory, word(action));
            if let Some(line) = self.line(directory, action) {
                log::info!("{line}");
            }
        }
    }

    /// Logs how many changes were not logged one by one.
    pub(super) fn finish(&mut self) {
        for line in self.counts() {
            log::info!("{line}");
        }
    }

    /// The line for one change; `None` when there are too many, and it is only counted.
    fn line(&mut self, directory: &str, action: &Action) -> Option<String> {
        if self.logged == MAX_CHANGES {
            *self.rest.entry((check::text(directory), word(action))).or_default() += 1;
            return None;
        }
        self.logged += 1;
        let from = match &action.step {
            Step::Move { from, .. } => format!(" from={}", from.for_people()),
            Step::Put(_) | Step::SetMeta(_) | Step::Delete => String::new(),
        };
        let (run, directory, word) = (&self.run, check::text(directory), word(action));
        let path = action.path.for_people();
        Some(format!("change: run={run} directory={directory} action={word}{from} path={path}"))
    }

    fn counts(&mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.rest);
        let run = &self.run;
        rest.into_iter()
            .map(|((directory, word), count)| {
                format!("changes: run={run} directory={directory} action={word} more={count}")
            })
            .collect()
    }
}

fn word(action: &Action) -> &'static str {
    match (&action.step, &action.expected) {
        (Step::Put(_), None) => "create",
        (Step::Put(_), Some(_)) => "replace",
        (Step::Move { .. }, _) => "move",
        (Step::SetMeta(_), _) => "set-metadata",
        (Step::Delete, _) => "delete",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Entry, RelPathBuf};

    fn action(path: &str, expected: Option<Entry>, step: Step) -> Action {
        Action { path: RelPathBuf::new(path.as_bytes()).unwrap(), expected, step }
    }

    #[test]
    fn each_change_is_one_harmless_line() {
        let entry = || Entry::Excluded;
        let from = RelPathBuf::new(&b"old\n.wav"[..]).unwrap();
        let moved = Step::Move { from, from_expected: Box::new(entry()), entry: entry() };
        for (action, line) in [
            (action("a b.wav", None, Step::Put(entry())), "action=create path=a b.wav"),
            (action("a\x1b[2J", Some(entry()), Step::Put(entry())), "action=replace path=a\\x1b[2J"),
            (action("new.wav", None, moved), "action=move from=old\\x0a.wav path=new.wav"),
            (action("a", Some(entry()), Step::SetMeta(entry())), "action=set-metadata path=a"),
            (action("a", Some(entry()), Step::Delete), "action=delete path=a"),
        ] {
            let logged = ChangeLog::new("01R").line("moh\n", &action).unwrap();
            assert_eq!(logged, format!("change: run=01R directory=moh {line}"));
        }
    }

    #[test]
    fn beyond_so_many_changes_are_counted() {
        let mut log = ChangeLog::new("01R");
        let delete = action("a", None, Step::Delete);
        for directory in ["moh", "moh", "sounds"] {
            for _ in 0..MAX_CHANGES {
                log.line(directory, &delete);
            }
        }
        assert_eq!(
            log.counts(),
            [
                "changes: run=01R directory=moh action=delete more=1000",
                "changes: run=01R directory=sounds action=delete more=1000"
            ]
        );
        assert_eq!(log.counts(), Vec::<String>::new(), "they are logged once");
    }
}
