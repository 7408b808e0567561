//! The same for many nodes, side by side.

use std::thread;

use crate::config::Node;

/// What `work` returns for each node, in their order; `parallel` of them are at work at once.
pub(super) fn each<'a, T: Send>(
    nodes: &[&'a Node],
    parallel: usize,
    work: impl Fn(&'a Node) -> T + Sync,
) -> Vec<T> {
    let work = &work;
    let mut done = Vec::with_capacity(nodes.len());
    for some in nodes.chunks(parallel.max(1)) {
        thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|&node| scope.spawn(move || work(node))).collect();
            done.extend(threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
        });
    }
    done
}
