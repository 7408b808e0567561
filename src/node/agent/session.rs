//! A session with Main after its handshake: which requests it may make, and when.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};

use super::change_log::ChangeLog;
use super::contents::ToMain;
use super::error::{broken, lost, refused};
use super::pending_commit::PendingCommit;
use super::send_reply;
use super::watcher::Watcher;
use crate::model::RelPathBuf;
use crate::node::accept::Accept;
use crate::node::binding;
use crate::node::endpoint::NodeSession;
use crate::node::error::NodeError;
use crate::node::heartbeat::{Activity, Heartbeat};
use crate::node::protocol::check;
use crate::node::protocol::frame::{Kind, decode, read_frame};
use crate::node::protocol::handshake::Hello;
use crate::node::protocol::message::{Reply, Request};
use crate::node::seen::Visit;
use crate::snapshot::Rules;
use crate::transfer::trash::TrashEntry;

/// A session with a Main that the node obeys.
pub(super) struct AgentSession<'a, W> {
    pub(super) input: &'a mut dyn Read,
    pub(super) heartbeat: &'a Heartbeat<'a, W>,
    pub(super) host: &'a mut dyn NodeSession,
    pub(super) accept: &'a Accept,
    /// Gets the watches that Main asks for.
    pub(super) watcher: &'a Watcher,
    main: &'a Hello,
    pub(super) run: Option<AgentRun>,
}

/// The run that is open. Nothing of it survives its end.
pub(super) struct AgentRun {
    pub(super) id: String,
    dry_run: bool,
    /// Whether the node is bound to this Main, as it is from the first change on.
    is_bound: bool,
    /// The directories that Main has scanned, with what may be named in them; `None` where its rules do not parse.
    pub(super) scanned: HashMap<String, Option<Rules>>,
    pub(super) commit: PendingCommit,
    /// Entries of the trash that Main has asked for and not received yet.
    pub(super) trash: VecDeque<TrashEntry>,
    pub(super) changes: ChangeLog,
    /// What this node remembers of the run.
    pub(super) visit: Visit,
}

impl<'a, W: Write> AgentSession<'a, W> {
    pub(super) fn new(
        input: &'a mut dyn Read,
        heartbeat: &'a Heartbeat<'a, W>,
        host: &'a mut dyn NodeSession,
        (accept, watcher): (&'a Accept, &'a Watcher),
        main: &'a Hello,
    ) -> AgentSession<'a, W> {
        AgentSession { input, heartbeat, host, accept, watcher, main, run: None }
    }

    /// Answers requests until Main closes the stream.
    pub(super) fn run(&mut self) -> Result<(), NodeError> {
        let served = self.answer_requests();
        self.close_run(false);
        // Main has gone, or goes now: nobody is left to be told.
        let _ = self.host.end();
        served
    }

    fn answer_requests(&mut self) -> Result<(), NodeError> {
        let mut payload = Vec::new();
        loop {
            let request = match read_frame(self.input, &mut payload).map_err(lost)? {
                None => return Ok(()),
                Some(Kind::Request) => decode(Kind::Request, &payload).map_err(lost)?,
                Some(kind) => return Err(broken(format!("expected a request, got a {kind:?} frame"))),
            };
            self.heartbeat.set(Activity::Working);
            let answer = self.handle(request)?;
            send_reply(self.heartbeat, &answer)?;
            self.heartbeat.set(Activity::Idle);
        }
    }

    fn handle(&mut self, request: Request) -> Result<Reply, NodeError> {
        match request {
            Request::Begin { run, dry_run } => self.begin(&run, dry_run),
            Request::End => self.end(),
            Request::Watch(specs) => self.watch(&specs),
            Request::Scan(spec) => self.scan(&spec),
            Request::Tree { directory, basis } => self.tree(&directory, basis),
            Request::KnownOwners(owners) => self.known_owners(&owners),
            Request::Prepare { directory, trash, root } => {
                self.may_change(&directory)?;
                root.iter().try_for_each(check::meta).map_err(lost)?;
                let prepared = self.host.prepare(&directory, &trash, root.as_ref())?;
                Ok(Reply::Prepared(prepared.map_err(check::clip_refusal)))
            }
            Request::ClearStage(directory) => {
                self.may_change(&directory)?;
                let cleared = self.host.clear_stage(&directory)?;
                Ok(Reply::StageCleared(cleared.map_err(check::clip_refusal)))
            }
            Request::Stage { directory, wanted } => {
                self.may_change(&directory)?;
                self.stage(&directory, &wanted)
            }
            Request::Send { directory, wanted, bases } => self.send(&directory, &wanted, bases),
            Request::Commit { directory, actions, last } => {
                self.may_change(&directory)?;
                self.commit(&directory, actions, last)
            }
            Request::Outcomes => Ok(Reply::Outcomes(self.in_run()?.commit.next_outcomes())),
            Request::Agree { directory, generation } => {
                self.may_change(&directory)?;
                check::id(&generation).map_err(lost)?;
                let agreed = self.host.agree(&directory, &generation)?;
                Ok(Reply::Agreed(agreed.map_err(check::clip_refusal)))
            }
            Request::Reload(request) => {
                self.may_write()?;
                self.reload(&request)
            }
            Request::ReplaceKey(change) => {
                self.may_write()?;
                self.replace_key(&change)
            }
            Request::Trashed(directory) => self.trashed(&directory),
            Request::Versions { directory, path } => {
                self.may_name(&directory, [&path])?;
                self.versions(&directory, &path)
            }
            Request::MoreTrash => self.more_trash(),
            Request::Describe(roots) => self.describe(&roots),
            Request::Recall { directory, id, paths } => {
                self.may_name(&directory, &paths)?;
                let recalled = self.host.recall(&directory, &id, &paths)?;
                let clipped = recalled.into_iter().map(|item| item.map_err(check::clip_refusal));
                Ok(Reply::Recalled(clipped.collect()))
            }
            Request::SendTrashed { directory, id, wanted } => {
                self.may_name(&directory, wanted.iter().map(|blob| &blob.path))?;
                let sink = ToMain::new(self.heartbeat);
                self.stream(sink, |host, sink| host.send_trashed(&directory, &id, &wanted, sink))
            }
        }
    }

    fn begin(&mut self, run: &str, dry_run: bool) -> Result<Reply, NodeError> {
        check::id(run).map_err(lost)?;
        self.close_run(false);
        // Another Main may have taken over while the session was idle.
        binding::check(&self.accept.state_dir, self.main)?;
        self.host.begin(run, dry_run)?;
        self.run = Some(AgentRun {
            id: run.to_owned(),
            dry_run,
            is_bound: false,
            scanned: HashMap::new(),
            commit: PendingCommit::default(),
            trash: VecDeque::new(),
            changes: ChangeLog::new(run),
            visit: Visit::new(run, self.main),
        });
        Ok(Reply::Begun { machine: self.machine(dry_run), read_only: self.accept.read_only })
    }

    /// Which machine this is. A dry run, or a node that may not be changed, makes no id.
    fn machine(&self, dry_run: bool) -> Option<String> {
        let (machine, state_dir) = (self.accept.machine.as_ref()?, &self.accept.state_dir);
        if dry_run || self.accept.read_only {
            return machine.id(state_dir);
        }
        // A state directory that cannot be written shows in the run itself.
        machine.ensure_id(state_dir).inspect_err(|error| log::warn!("machine: {error:#}")).ok()
    }

    fn end(&mut self) -> Result<Reply, NodeError> {
        self.close_run(true);
        self.host.end()?;
        Ok(Reply::Ended)
    }

    /// `whole`: Main has ended it.
    fn close_run(&mut self, whole: bool) {
        if let Some(mut run) = self.run.take() {
            run.changes.finish();
            if !run.dry_run && !self.accept.read_only {
                Visit { whole, ..run.visit }.save(&self.accept.state_dir);
            }
        }
    }

    /// The run that is open.
    pub(super) fn in_run(&mut self) -> Result<&mut AgentRun, NodeError> {
        self.run
            .as_mut()
            .ok_or_else(|| broken("expected the begin of a run, got a request that belongs to one"))
    }

    /// Fails unless the directory was scanned in this run, and so accepted.
    pub(super) fn known(&mut self, directory: &str) -> Result<(), NodeError> {
        if self.in_run()?.scanned.contains_key(directory) {
            return Ok(());
        }
        Err(broken(format!("the directory {} was not scanned in this run", check::text(directory))))
    }

    /// Fails if Main may not ask for one of these paths of the trash: excluded paths stay the node's own there as well.
    fn may_name<'p>(
        &mut self,
        directory: &str,
        paths: impl IntoIterator<Item = &'p RelPathBuf>,
    ) -> Result<(), NodeError> {
        self.known(directory)?;
        let rules = self.in_run()?.scanned.get(directory).and_then(Option::as_ref);
        for path in paths {
            check::path(path).map_err(lost)?;
            if rules.is_none_or(|rules| rules.keeps_out(path)) {
                return Err(broken(format!("{} is excluded, and not to be asked for", path.for_people())));
            }
        }
        Ok(())
    }

    fn may_change(&mut self, directory: &str) -> Result<(), NodeError> {
        self.known(directory)?;
        self.may_write()
    }

    /// Fails if nothing may be changed in this run. Binds the node to Main before its first change.
    fn may_write(&mut self) -> Result<(), NodeError> {
        let (accept, main) = (self.accept, self.main);
        let run = self.in_run()?;
        if accept.read_only {
            let file = accept.file.display();
            return Err(refused(format!("the node accepts no changes (see `read_only` in {file} there)")));
        }
        if run.dry_run {
            return Err(refused("a dry run must not change a node"));
        }
        if !run.is_bound {
            binding::bind(&accept.state_dir, main)?;
            run.is_bound = true;
        }
        Ok(())
    }
}
