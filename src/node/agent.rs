//! The node's end of a session: serves an [`Endpoint`] on a stream, as far as the node accepts it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Duration;

use super::accept::Accept;
use super::binding;
use super::endpoint::{Endpoint, NodeError, NodeErrorKind};
use super::protocol::check;
use super::protocol::frame::{FrameError, Kind, MAX_DATA, decode, read_frame, write_value};
use super::protocol::handshake::{Hello, MAGIC, MainHello, Versions, decode_hello};
use super::protocol::message::{Basis, MAX_LIST, Reply, Request, Weight, batches};
use super::protocol::tree::MAX_TREE;
use super::pulse::{Mode, Pulse};
use super::upstream::{FromMain, ToMain};
use crate::model::{Action, Outcome, RelPath, RelPathBuf, ReloadOutcome, ReloadState};
use crate::reload::ReloadRequest;
use crate::snapshot::{Root, Rules, ScanSpec};
use crate::transfer::trash::TrashEntry;
use crate::transfer::{BlobRequest, Signature, Sink, send_bytes};

/// Most directories that Main may have scanned in a session; sites have some ten. The tree of each is held until
/// the session ends.
const MAX_DIRECTORIES: usize = 256;
/// Longest time that Main may give a reload. Asterisk's take seconds.
const MAX_RELOAD: Duration = Duration::from_secs(3600);
/// Shortest and longest time between keep-alives, whatever Main's timeout is.
const ALIVE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3600));

/// Serves `endpoint` until Main closes `input`.
///
/// `progress` is counted up by whatever the endpoint does: as long as it moves, Main is told that this
/// end lives. The error is what Main was told, where it could be told anything.
pub fn serve(
    input: impl Read,
    output: impl Write + Send,
    endpoint: &mut dyn Endpoint,
    accept: &Accept,
    progress: &AtomicU64,
) -> Result<(), NodeError> {
    let pulse = Pulse::new(BufWriter::with_capacity(MAX_DATA, output), progress);
    let mut input = BufReader::with_capacity(MAX_DATA, input);
    let served = greet(&mut input, &pulse, accept).and_then(|main| {
        let Some(main) = main else { return Ok(()) };
        let every = (Duration::from_millis(main.timeout_ms) / 4).clamp(ALIVE.0, ALIVE.1);
        let mut session = Session {
            input: &mut input,
            pulse: &pulse,
            endpoint,
            accept,
            hello: main.hello,
            bound: false,
            scanned: HashMap::new(),
            commit: Commit::default(),
            found: VecDeque::new(),
        };
        std::thread::scope(|scope| {
            // Closed when the session ends, however it ends.
            let (_stop, stopped) = mpsc::channel();
            scope.spawn(|| {
                let stopped = stopped;
                pulse.beat(every, &stopped);
            });
            session.run()
        })
    });
    if let Err(error) = &served {
        // Main may be gone.
        let _ = fail(&mut *pulse.output(), error);
    }
    served
}

/// Begins a session and ends it with this error: the node cannot serve, and Main is to know why.
pub fn decline(output: &mut dyn Write, error: &NodeError) -> io::Result<()> {
    begin(output)?;
    fail(output, error)
}

fn begin(output: &mut dyn Write) -> io::Result<()> {
    output.write_all(&MAGIC)?;
    write_value(output, Kind::Hello, &Versions::ours())?;
    output.flush()
}

fn fail(output: &mut dyn Write, error: &NodeError) -> io::Result<()> {
    let error = NodeError::new(error.kind, check::clip(error.detail.clone()));
    write_value(output, Kind::Failed, &error)?;
    output.flush()
}

/// Meets Main; none when there is nobody.
fn greet<W: Write>(
    input: &mut dyn Read,
    pulse: &Pulse<'_, W>,
    accept: &Accept,
) -> Result<Option<MainHello>, NodeError> {
    begin(&mut *pulse.output()).map_err(lost)?;
    let mut payload = Vec::new();
    match read_frame(input, &mut payload).map_err(lost)? {
        None => return Ok(None),
        Some(Kind::Hello) => {}
        Some(kind) => {
            return Err(lost(FrameError::broken(format!("a {kind:?} frame where a hello was due"))));
        }
    }
    let version = Versions::common(&decode_hello(&payload).map_err(lost)?, &Versions::ours())?;
    let main: MainHello = decode_hello(&payload).map_err(lost)?;
    check::id(&main.hello.main).and_then(|()| check::id(&main.hello.run)).map_err(lost)?;
    binding::check(&accept.state_dir, &main.hello)?;
    let hello = Hello { name: check::text(&main.hello.name), ..main.hello };
    reply(pulse, &Reply::Welcome(version))?;
    Ok(Some(MainHello { hello, ..main }))
}

fn reply<W: Write>(pulse: &Pulse<'_, W>, reply: &Reply) -> Result<(), NodeError> {
    let mut output = pulse.output();
    write_value(&mut *output, Kind::Reply, reply).and_then(|()| output.flush()).map_err(lost)
}

pub(super) fn lost(error: impl Into<FrameError>) -> NodeError {
    let detail = match error.into() {
        FrameError::Io(error) => format!("the stream to Main has failed: {error}"),
        FrameError::Broken(rule) => format!("Main broke the protocol: {rule}"),
    };
    NodeError::new(NodeErrorKind::Lost, detail)
}

fn refused(detail: impl Into<String>) -> NodeError {
    NodeError::new(NodeErrorKind::Refused, detail)
}

/// A session after its handshake.
struct Session<'a, W> {
    input: &'a mut dyn Read,
    pulse: &'a Pulse<'a, W>,
    endpoint: &'a mut dyn Endpoint,
    accept: &'a Accept,
    hello: Hello,
    /// Whether the node has remembered this Main.
    bound: bool,
    /// The directories that Main has looked at, with what may be named in them; none where that is not known.
    scanned: HashMap<String, Option<Rules>>,
    commit: Commit,
    /// What lies in the trash that was asked for, as far as Main has not got it yet.
    found: VecDeque<TrashEntry>,
}

/// A commit on its way: its actions come in parts, and its outcomes go in parts.
#[derive(Default)]
struct Commit {
    directory: String,
    actions: Vec<Action>,
    /// About how long those are.
    bytes: usize,
    outcomes: VecDeque<Outcome>,
}

/// Most actions of one commit; they are held until the last one is here. Two for each entry of the largest
/// tree that is taken.
const MAX_ACTIONS: usize = 6_000_000;
/// Most bytes of all of these, by their weight: some 350 each, where a path alone may have 3072.
const MAX_ACTION_BYTES: usize = 2 << 30;

impl<W: Write> Session<'_, W> {
    fn run(&mut self) -> Result<(), NodeError> {
        let mut payload = Vec::new();
        loop {
            let request = match read_frame(self.input, &mut payload).map_err(lost)? {
                None => return Ok(()),
                Some(Kind::Request) => decode(Kind::Request, &payload).map_err(lost)?,
                Some(kind) => {
                    let rule = format!("a {kind:?} frame where a request was due");
                    return Err(lost(FrameError::Broken(rule)));
                }
            };
            self.pulse.set(Mode::Working);
            self.handle(request)?;
            self.pulse.set(Mode::Idle);
        }
    }

    fn handle(&mut self, request: Request) -> Result<(), NodeError> {
        let answer = match request {
            Request::Scan(spec) => self.scan(&spec)?,
            Request::Tree { directory, basis } => {
                self.known(&directory)?;
                self.tree(&directory, basis)?
            }
            Request::KnownOwners(owners) => {
                owners.iter().try_for_each(check::owner).map_err(lost)?;
                Reply::Owners(self.endpoint.known_owners(&owners)?)
            }
            Request::Prepare { directory, run, trash } => {
                self.may_change(&directory)?;
                check::id(&run).map_err(lost)?;
                Reply::Prepared(self.endpoint.prepare(&directory, &run, &trash)?.map_err(check::clip))
            }
            Request::Stage { directory, wanted } => {
                self.may_change(&directory)?;
                self.stage(&directory, &wanted)?
            }
            Request::Send { directory, wanted, bases } => {
                self.known(&directory)?;
                self.send(&directory, &wanted, bases)?
            }
            Request::Commit { directory, actions, last } => {
                self.may_change(&directory)?;
                self.commit(directory, actions, last)?
            }
            Request::Outcomes => self.outcomes(),
            Request::Agree { directory, generation } => {
                self.may_change(&directory)?;
                check::id(&generation).map_err(lost)?;
                Reply::Agreed(self.endpoint.agree(&directory, &generation)?.map_err(check::clip))
            }
            Request::Reload(request) => self.reload(&request)?,
            Request::Trashed(directory) => {
                self.known(&directory)?;
                self.found = self.endpoint.trashed(&directory)?.into();
                self.more_trash()
            }
            Request::Versions { directory, path } => {
                self.may_name(&directory, [&path])?;
                self.versions(&directory, &path)?
            }
            Request::MoreTrash => self.more_trash(),
            Request::Recall { directory, id, paths } => {
                self.may_name(&directory, &paths)?;
                let recalled = self.endpoint.recall(&directory, &id, &paths)?;
                Reply::Recalled(recalled.into_iter().map(|item| item.map_err(check::clip)).collect())
            }
            Request::SendTrashed { directory, id, wanted } => {
                self.may_name(&directory, wanted.iter().map(|content| &content.path))?;
                let sink = ToMain::new(self.pulse);
                self.give(sink, |endpoint, sink| endpoint.send_trashed(&directory, &id, &wanted, sink))?
            }
            Request::ReplaceKey(change) => {
                self.may_write()?;
                Reply::KeyReplaced(self.endpoint.replace_key(&change)?.map_err(check::clip))
            }
        };
        reply(self.pulse, &answer)
    }

    /// A directory that was scanned in this session, and so accepted.
    fn known(&self, directory: &str) -> Result<(), NodeError> {
        if self.scanned.contains_key(directory) {
            return Ok(());
        }
        let directory = check::text(directory);
        Err(lost(FrameError::broken(format!("the directory {directory} was not scanned in this session"))))
    }

    /// Whether Main may ask for these paths of the trash: what is excluded is none of its business, wherever
    /// it lies.
    fn may_name<'p>(
        &self,
        directory: &str,
        paths: impl IntoIterator<Item = &'p RelPathBuf>,
    ) -> Result<(), NodeError> {
        self.known(directory)?;
        let rules = self.scanned.get(directory).and_then(Option::as_ref);
        for path in paths {
            check::path(path).map_err(lost)?;
            if rules.is_none_or(|rules| rules.keeps_out(path)) {
                let rule = format!("{} is excluded, and not to be asked for", path.for_people());
                return Err(lost(FrameError::Broken(rule)));
            }
        }
        Ok(())
    }

    fn may_change(&mut self, directory: &str) -> Result<(), NodeError> {
        self.known(directory)?;
        self.may_write()
    }

    fn may_write(&mut self) -> Result<(), NodeError> {
        if self.accept.read_only {
            let file = self.accept.file.display();
            return Err(refused(format!("the node accepts no changes (see `read_only` in {file} there)")));
        }
        if self.hello.dry_run {
            return Err(refused("a dry run must not change a node"));
        }
        if !self.bound {
            binding::bind(&self.accept.state_dir, &self.hello)?;
            self.bound = true;
        }
        Ok(())
    }

    fn scan(&mut self, spec: &ScanSpec) -> Result<Reply, NodeError> {
        let name = &spec.directory;
        if name.is_empty() || name.len() > check::MAX_ID || name.chars().any(char::is_control) {
            return Err(lost(FrameError::broken("a directory's name is empty, too long or not one line")));
        }
        if self.scanned.len() >= MAX_DIRECTORIES && !self.scanned.contains_key(name) {
            return Err(lost(FrameError::broken("too many directories in a session")));
        }
        self.accept.root(&spec.root).map_err(refused)?;
        let mut scanned = self.endpoint.scan(spec)?;
        if let Root::Unusable(why) = &mut scanned.root {
            *why = check::clip(std::mem::take(why));
        }
        self.scanned.insert(name.clone(), Rules::new(&spec.exclude, Vec::new()).ok());
        Ok(Reply::Scanned(scanned))
    }

    fn tree(&mut self, directory: &str, basis: Option<Arc<Signature>>) -> Result<Reply, NodeError> {
        let basis = basis.map(check::sound).transpose().map_err(lost)?;
        let encoded = self.endpoint.tree(directory, None)?.encode();
        let length = encoded.len() as u64;
        if length > MAX_TREE {
            return Err(refused(format!("{directory} has too many files: its tree takes {length} bytes")));
        }
        reply(self.pulse, &Reply::Tree(length))?;
        let sink = ToMain::new(self.pulse).with_signatures(vec![basis]);
        self.give(sink, |_, sink| {
            send_bytes(&encoded, sink).map_err(|error| NodeError::new(NodeErrorKind::Lost, error.to_string()))
        })
    }

    fn stage(&mut self, directory: &str, wanted: &[BlobRequest]) -> Result<Reply, NodeError> {
        let mut source = FromMain::new(wanted, &mut *self.input, self.pulse);
        let received = self.endpoint.stage(directory, wanted, &mut source);
        // An endpoint that could go on without the stream would answer into nothing.
        if let Some(failed) = source.failed {
            return Err(failed);
        }
        Ok(Reply::Received(received?.into_iter().map(|item| item.map_err(check::clip)).collect()))
    }

    fn send(
        &mut self,
        directory: &str,
        wanted: &[BlobRequest],
        bases: Vec<Basis>,
    ) -> Result<Reply, NodeError> {
        wanted.iter().try_for_each(|content| check::path(&content.path)).map_err(lost)?;
        let signatures = check::bases(bases, wanted.len()).map_err(lost)?;
        let sink = ToMain::new(self.pulse).with_signatures(signatures);
        self.give(sink, |endpoint, sink| endpoint.send(directory, wanted, sink))
    }

    /// Lets the endpoint give contents to Main.
    fn give(
        &mut self,
        mut sink: ToMain<'_, W>,
        send: impl FnOnce(&mut dyn Endpoint, &mut dyn Sink) -> Result<(), NodeError>,
    ) -> Result<Reply, NodeError> {
        let sent = send(self.endpoint, &mut sink);
        match sink.failed {
            Some(error) => Err(lost(error)),
            None => sent.map(|()| Reply::Sent),
        }
    }

    fn versions(&mut self, directory: &str, path: &RelPath) -> Result<Reply, NodeError> {
        Ok(match self.endpoint.versions(directory, path)? {
            Ok(versions) => {
                self.found = versions.into();
                self.more_trash()
            }
            Err(why) => Reply::TrashUnread(check::clip(why)),
        })
    }

    /// The next entries of the trash that was asked for, as many as fit into an answer.
    fn more_trash(&mut self) -> Reply {
        let count = batches(self.found.make_contiguous()).next().map_or(0, <[TrashEntry]>::len);
        let entries = self.found.drain(..count).collect();
        Reply::Trash { entries, more: !self.found.is_empty() }
    }

    fn commit(&mut self, directory: String, actions: Vec<Action>, last: bool) -> Result<Reply, NodeError> {
        actions.iter().try_for_each(check::action).map_err(lost)?;
        if self.commit.directory != directory {
            self.commit = Commit { directory, ..Commit::default() };
        }
        self.commit.bytes += actions.iter().map(Weight::weight).sum::<usize>();
        self.commit.actions.extend(actions);
        if self.commit.actions.len() > MAX_ACTIONS || self.commit.bytes > MAX_ACTION_BYTES {
            return Err(lost(FrameError::broken("a commit with too many actions")));
        }
        if last {
            let actions = std::mem::take(&mut self.commit.actions);
            self.commit.bytes = 0;
            self.commit.outcomes = self.endpoint.commit(&self.commit.directory, &actions)?.into();
        }
        Ok(self.outcomes())
    }

    /// The next outcomes of the last commit, as many as fit into an answer.
    fn outcomes(&mut self) -> Reply {
        let clip = |outcome| match outcome {
            Outcome::Failed(why) => Outcome::Failed(check::clip(why)),
            other => other,
        };
        let count = self.commit.outcomes.len().min(MAX_LIST);
        Reply::Outcomes(self.commit.outcomes.drain(..count).map(clip).collect())
    }

    fn reload(&mut self, request: &ReloadRequest) -> Result<Reply, NodeError> {
        self.may_write()?;
        for (root, _) in &request.files {
            self.accept.root(root).map_err(refused)?;
        }
        if request.timeout > MAX_RELOAD {
            return Err(lost(FrameError::broken("a reload that may take hours")));
        }
        if !self.accept.reload.contains_key(&request.name) {
            let name = check::text(&request.name);
            let detail = format!(
                "the node has no reload {name} (see `[reload]` in {} there)",
                self.accept.file.display()
            );
            let name = request.name.clone();
            return Ok(Reply::Reloaded(ReloadOutcome {
                name,
                state: ReloadState::Failed,
                detail: Some(detail),
            }));
        }
        self.pulse.set(Mode::Waiting);
        let outcome = self.endpoint.reload(request)?;
        Ok(Reply::Reloaded(ReloadOutcome { detail: outcome.detail.map(check::clip), ..outcome }))
    }
}
