//! Main's directories as a run finds them, under the guards of a run, for whoever publishes them instead of pushing them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Meta, Tree};
use crate::plan::{EdgeInput, OwnerMap, push, safety};
use crate::report::{Guard, Halted, Problem, words};
use crate::sync::halt::Halt;
use crate::sync::main_side::BlobSource;
use crate::sync::origin::{Origin, Origins};
use crate::sync::{DirectorySpec, Environment, Run, Spec, lock};

/// A directory of Main's.
pub struct Surveyed {
    /// What it is.
    pub directory: Arc<DirectorySpec>,
    /// What is there; none where a guard holds.
    pub found: Option<FoundOnMain>,
}

/// What stands in a directory of Main's.
pub struct FoundOnMain {
    /// As a scan found it.
    pub tree: Arc<Tree>,
    /// Mode and owner of its root.
    pub root: Option<Meta>,
    /// Where its contents come from, as long as the survey lasts.
    pub source: BlobSource,
    /// The token that released its deletions, if it took one.
    pub accepted: Option<String>,
}

/// What was found on Main.
pub struct Survey {
    /// In configured order.
    pub directories: Vec<Surveyed>,
    /// Directories that stay as they were published.
    pub halted: Vec<Halted>,
    /// What else there is to say.
    pub problems: Vec<Problem>,
}

impl std::fmt::Debug for Survey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survey").field("halted", &self.halted).finish_non_exhaustive()
    }
}

/// Scans Main's directories and hands them to `publish`. `last` has what of them was published last. `Err` is Main's own
/// state that could not be read.
pub fn survey<R>(
    env: &Environment<'_>,
    spec: &Spec,
    last: &BTreeMap<String, Tree>,
    publish: impl FnOnce(Survey) -> R,
) -> anyhow::Result<R> {
    let mut own = None;
    let shared = env.shared(spec, &mut own)?;
    let run = Run::new(env, spec, shared)?;
    lock(&env.main).begin(&run.id, spec.dry_run)?;
    let origins = Origins::scan(&run);
    let mut survey = Survey { directories: Vec::new(), halted: Vec::new(), problems: Vec::new() };
    for directory in &spec.directories {
        let guarded = origins.get(&run, &directory.name).and_then(|origin| {
            let accepted = guard(&run, directory, &origin, last.get(&directory.name))?;
            Ok((origin, accepted))
        });
        let found = match guarded {
            Ok((origin, accepted)) => Some(found(&origin, accepted)),
            Err(halt) => {
                survey.halted.push(halt.told(&directory.name, Vec::new()));
                None
            }
        };
        survey.directories.push(Surveyed { directory: Arc::clone(directory), found });
    }
    survey.problems.append(&mut lock(&run.on_main));
    survey.problems.extend(run.save_ledger());
    survey.problems.extend(run.unused_tokens());
    let result = publish(survey);
    lock(&env.main).end()?;
    Ok(result)
}

fn found(origin: &Origin, accepted: Option<String>) -> FoundOnMain {
    FoundOnMain {
        tree: Arc::clone(&origin.tree),
        root: origin.root.clone(),
        source: Arc::clone(&origin.source),
        accepted,
    }
}

/// Stops what would delete suspiciously much of what was published last, as a run stops it. Returns the token that released
/// it, if one did.
fn guard(
    run: &Run<'_>,
    directory: &DirectorySpec,
    origin: &Origin,
    last: Option<&Tree>,
) -> Result<Option<String>, Halt> {
    let Some(last) = last else { return Ok(None) };
    let names = OwnerMap::default();
    let edge = EdgeInput { name: "", base: Some(last), same_rules: true, node: last, names: &names };
    let plan = push::push(&directory.policy, &origin.tree, &[edge]);
    let token = safety::token(&directory.name, &plan);
    let Some(actions) = plan.edges.first().map(|edge| &edge.actions) else { return Ok(None) };
    let path = directory.scan.root.display();
    let is_emptied = match directory.is_two_way() {
        true => safety::emptied_of_several(Some(last), &origin.tree),
        false => safety::emptied(Some(last), &origin.tree),
    };
    let (guard, detail) = if is_emptied && safety::deletes(actions) {
        let files = safety::deletions(last, actions).lost.files;
        let files = words::count(files, "file", "files");
        (
            Guard::Emptied,
            format!("{path} has become empty; {files} would be deleted on every node that follows"),
        )
    } else if let Some((_, losses)) =
        safety::exceeds(directory.policy.max_delete, &plan, &origin.tree, &[last])
    {
        (Guard::MaxDelete, format!("{} on every node that follows", words::deletions(losses)))
    } else {
        return Ok(None);
    };
    if run.is_accepted(&token) {
        return Ok(Some(token));
    }
    Err(Halt::new(guard, detail).released_by(&token).about(&safety::deleted_paths(&plan), &origin.tree))
}
