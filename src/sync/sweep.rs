//! What earlier runs have left in the stages of Main's directories.

use crate::report::{Problem, Stage};
use crate::sync::report::Part;
use crate::sync::result;
use crate::sync::spec::DirectorySpec;
use crate::sync::{Run, lock};

/// Sweeps what earlier runs have left in the stages of Main's directories, at the end of a run. Where no edge of a
/// directory has anything left to do, all of it goes; elsewhere a partial blob may be carried on with for a week.
pub(super) fn sweep_stages(run: &Run<'_>, parts: &[Part]) -> Vec<Problem> {
    let left = run.spec.directories.iter().filter(|directory| {
        run.origins().standing(&directory.name).is_ok_and(|main| main.leftovers) && run.may_change()
    });
    let swept = left.filter_map(|directory| {
        let is_finished =
            run.is_for_all_nodes() && parts.iter().all(|part| part.has_finished(&directory.name));
        let error = sweep_stage(run, directory, is_finished).err()?;
        Some(result::problem(Stage::Commit, None, Some(&directory.name), format!("{error:#}")))
    });
    swept.collect()
}

fn sweep_stage(run: &Run<'_>, directory: &DirectorySpec, is_finished: bool) -> anyhow::Result<()> {
    let mut main = lock(&run.env.main);
    let root = main.prepare(&directory.name, &run.spec.trash, None)??;
    run.warn_of_pruned(&directory.name, &root.pruned);
    if is_finished {
        main.clear_stage(&directory.name)??;
    }
    Ok(())
}
