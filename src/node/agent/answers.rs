//! The answers of an agent, once it is clear that Main may ask.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::contents::{FromMain, ToMain};
use super::error::{broken, lost, refused};
use super::send_reply;
use super::session::AgentSession;
use crate::model::{Action, Owner, RelPath, ReloadOutcome, ReloadState};
use crate::node::endpoint::{Description, KeyChange, NodeSession, Watching};
use crate::node::error::{NodeError, NodeErrorKind, Refusal};
use crate::node::heartbeat::Activity;
use crate::node::protocol::check;
use crate::node::protocol::limits::{MAX_ID, MAX_LIST, MAX_TREE};
use crate::node::protocol::message::{Basis, Lines, Reply, batches};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, Rules, ScanSpec, Scanned};
use crate::transfer::trash::TrashEntry;
use crate::transfer::{BlobRequest, Signature, Sink, send_bytes};

/// Most directories that Main may have scanned in a run; sites have some ten. The tree of each is held until
/// the run ends.
const MAX_DIRECTORIES: usize = 256;
/// Longest time that Main may give a reload. Asterisk's take seconds.
const MAX_RELOAD: Duration = Duration::from_secs(3600);

impl<W: Write> AgentSession<'_, W> {
    pub(super) fn scan(&mut self, spec: &ScanSpec) -> Result<Reply, NodeError> {
        let name = &spec.directory;
        if name.is_empty() || name.len() > MAX_ID || name.chars().any(char::is_control) {
            return Err(broken("a directory's name is empty, too long or not one line"));
        }
        let scanned = &self.in_run()?.scanned;
        if scanned.len() >= MAX_DIRECTORIES && !scanned.contains_key(name) {
            return Err(broken("too many directories in a run"));
        }
        if let Err(why) = self.accept.root(&spec.root) {
            // A fact about one directory: all others go on.
            log::warn!("refused: scan: run={} directory={}: {why}", self.in_run()?.id, check::text(name));
            return Ok(Reply::Scanned(Scanned::unusable(check::clip(why))));
        }
        let mut scanned = self.host.scan(spec)?;
        if let Root::Unusable(why) = &mut scanned.root {
            *why = check::clip(std::mem::take(why));
        }
        let rules = Rules::new(&spec.exclude, Vec::new()).ok();
        self.in_run()?.scanned.insert(name.clone(), rules);
        Ok(Reply::Scanned(scanned))
    }

    pub(super) fn watch(&mut self, specs: &[ScanSpec]) -> Result<Reply, NodeError> {
        let refused = |spec: &ScanSpec| self.accept.root(&spec.root).err();
        let accepted: Vec<ScanSpec> = specs.iter().filter(|spec| refused(spec).is_none()).cloned().collect();
        let Watching { roots, watches } = self.host.watch(&accepted)?;
        let mut watched = roots.into_iter();
        let answer = specs.iter().map(|spec| match refused(spec) {
            Some(why) => Err(Refusal::new(check::clip(why))),
            None => watched.next().unwrap_or(Ok(())).map_err(check::clip_refusal),
        });
        let answer = answer.collect();
        self.watcher.replace(watches);
        Ok(Reply::Watching(answer))
    }

    pub(super) fn tree(
        &mut self,
        directory: &str,
        basis: Option<Arc<Signature>>,
    ) -> Result<Reply, NodeError> {
        self.known(directory)?;
        let basis = basis.map(check::sound).transpose().map_err(lost)?;
        let encoded = self.host.tree(directory, None)?.encode();
        let length = encoded.len() as u64;
        if length > MAX_TREE {
            return Err(refused(format!("{directory} has too many files: its tree takes {length} bytes")));
        }
        send_reply(self.heartbeat, &Reply::Tree(length))?;
        let sink = ToMain::new(self.heartbeat).with_signatures(vec![basis]);
        self.stream(sink, |_, sink| {
            send_bytes(&encoded, sink).map_err(|error| NodeError::new(NodeErrorKind::Lost, error.to_string()))
        })
    }

    pub(super) fn known_owners(&mut self, owners: &[Owner]) -> Result<Reply, NodeError> {
        self.in_run()?;
        owners.iter().try_for_each(check::owner).map_err(lost)?;
        Ok(Reply::Owners(self.host.known_owners(owners)?))
    }

    pub(super) fn stage(&mut self, directory: &str, wanted: &[BlobRequest]) -> Result<Reply, NodeError> {
        let mut source = FromMain::new(wanted, &mut *self.input, self.heartbeat);
        let received = self.host.stage(directory, wanted, &mut source);
        // The stream has failed: the host's own view of it does not matter any more.
        if let Some(failed) = source.failed {
            return Err(failed);
        }
        Ok(Reply::Received(received?.into_iter().map(|item| item.map_err(check::clip)).collect()))
    }

    pub(super) fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        bases: Vec<Basis>,
    ) -> Result<Reply, NodeError> {
        self.known(directory)?;
        wanted.iter().try_for_each(|blob| check::path(&blob.path)).map_err(lost)?;
        let signatures = check::bases(bases, wanted.len()).map_err(lost)?;
        let sink = ToMain::new(self.heartbeat).with_signatures(signatures);
        self.stream(sink, |host, sink| host.send(directory, wanted, sink))
    }

    /// Streams blobs of the host to Main.
    pub(super) fn stream(
        &mut self,
        mut sink: ToMain<'_, W>,
        send: impl FnOnce(&mut dyn NodeSession, &mut dyn Sink) -> Result<(), NodeError>,
    ) -> Result<Reply, NodeError> {
        let sent = send(self.host, &mut sink);
        match sink.failed {
            Some(error) => Err(lost(error)),
            None => sent.map(|()| Reply::Sent),
        }
    }

    pub(super) fn commit(
        &mut self,
        directory: &str,
        actions: Vec<Action>,
        last: bool,
    ) -> Result<Reply, NodeError> {
        let commit = &mut self.in_run()?.commit;
        commit.add(directory, actions)?;
        if last {
            let actions = commit.take();
            let outcomes = self.host.commit(directory, &actions)?;
            let run = self.in_run()?;
            run.changes.commit(directory, &actions, &outcomes, &mut run.visit);
            run.commit.finish(outcomes);
        }
        Ok(Reply::Outcomes(self.in_run()?.commit.next_outcomes()))
    }

    pub(super) fn trashed(&mut self, directory: &str) -> Result<Reply, NodeError> {
        self.known(directory)?;
        self.in_run()?.trash = self.host.trashed(directory)?.into();
        self.more_trash()
    }

    pub(super) fn versions(&mut self, directory: &str, path: &RelPath) -> Result<Reply, NodeError> {
        match self.host.versions(directory, path)? {
            Ok(versions) => {
                self.in_run()?.trash = versions.into();
                self.more_trash()
            }
            Err(refusal) => Ok(Reply::TrashUnreadable(check::clip_refusal(refusal))),
        }
    }

    /// The next entries of the trash that was asked for, as many as fit into an answer.
    pub(super) fn more_trash(&mut self) -> Result<Reply, NodeError> {
        let trash = &mut self.in_run()?.trash;
        let count = batches(trash.make_contiguous()).next().map_or(0, <[TrashEntry]>::len);
        let entries = trash.drain(..count).collect();
        Ok(Reply::Trash { entries, more: !trash.is_empty() })
    }

    pub(super) fn reload(&mut self, request: &ReloadRequest) -> Result<Reply, NodeError> {
        for root in &request.roots {
            self.accept.root(root).map_err(refused)?;
        }
        if request.timeout > MAX_RELOAD {
            return Err(broken("a reload that may take hours"));
        }
        let (run, name) = (self.in_run()?.id.clone(), check::text(&request.name));
        if !self.accept.reload.contains_key(&request.name) {
            let file = self.accept.file.display();
            let detail = format!("the node has no reload {name} (see `[reload]` in {file} there)");
            log::warn!("refused: reload: run={run} name={name}: {detail}");
            return Ok(Reply::Reloaded(ReloadOutcome {
                name: request.name.clone(),
                state: ReloadState::Failed,
                detail: Some(detail),
            }));
        }
        self.heartbeat.set(Activity::Waiting);
        let outcome = self.host.reload(request)?;
        let outcome = ReloadOutcome { detail: outcome.detail.map(check::clip), ..outcome };
        let detail = outcome.detail.as_deref().map(|detail| format!(": {}", check::text(detail)));
        let detail = detail.unwrap_or_default();
        match outcome.state {
            ReloadState::Done => log::info!("reload: run={run} name={name} state=done{detail}"),
            ReloadState::NotNeeded => log::info!("reload: run={run} name={name} state=not-needed{detail}"),
            ReloadState::Owed => log::warn!("reload: run={run} name={name} state=owed{detail}"),
            ReloadState::Failed => log::warn!("reload: run={run} name={name} state=failed{detail}"),
        }
        self.in_run()?.visit.reloaded(&outcome);
        Ok(Reply::Reloaded(outcome))
    }

    pub(super) fn describe(&mut self, roots: &[PathBuf]) -> Result<Reply, NodeError> {
        if roots.len() > MAX_DIRECTORIES {
            return Err(broken("too many directories to describe"));
        }
        let accepted: Vec<Result<(), String>> = roots.iter().map(|root| self.accept.root(root)).collect();
        let named = roots.iter().zip(&accepted).filter(|(_, accepted)| accepted.is_ok());
        let named: Vec<PathBuf> = named.map(|(root, _)| root.clone()).collect();
        let described = self.host.describe(&named)?;
        let mut described_roots = described.roots.into_iter();
        let roots = accepted.into_iter().map(|accepted| match accepted {
            Ok(()) => described_roots.next().unwrap_or_else(|| Err(Refusal::new("it was not looked at"))),
            Err(why) => Err(Refusal::new(why)),
        });
        let roots = roots.map(|root| root.map_err(check::clip_refusal)).collect();
        Ok(Reply::Described(Description { read_only: self.accept.read_only, roots, ..described }))
    }

    pub(super) fn replace_key(&mut self, change: &KeyChange) -> Result<Reply, NodeError> {
        let run = self.in_run()?.id.clone();
        let replaced = self.host.replace_key(change)?.map_err(check::clip_refusal);
        match &replaced {
            Ok(lines) => {
                let what = if change.drop_old {
                    "the previous key of Main was removed"
                } else {
                    "a new key of Main was added"
                };
                log::info!("auth: key: run={run} {what}");
                for line in lines {
                    log::info!("auth: key: run={run} let in from now on: {}", check::text(line));
                }
            }
            Err(why) => log::warn!("auth: refused: key: run={run}: {}", check::text(&why.to_string())),
        }
        // More lines than can be sent are more than anybody reads.
        let lines = |lines: Vec<String>| Lines(lines.into_iter().take(MAX_LIST).map(check::clip).collect());
        Ok(Reply::KeyReplaced(replaced.map(lines)))
    }
}
