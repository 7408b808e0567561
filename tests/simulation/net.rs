//! The way from Main to the nodes: an agent in a thread, behind a pipe that may break at any byte.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use xds_sync::node::{
    Accept, Ended, EpochLimit, Hello, Local, LocalOptions, NodeError, NodeErrorKind, NodeSession, Peer,
    Remote, agent,
};
use xds_sync::report::NodeReport;
use xds_sync::sync::Connect;
use xds_sync::watch::OwnWrites;

use super::script::Run;
use super::watch;
use super::world::VirtualClock;

/// Makes the disk of the node with this number.
pub type Disk = Arc<dyn Fn(usize) -> (LocalOptions, Arc<OwnWrites>) + Send + Sync>;

/// Is told what a run came to on a node.
pub type Released<'a> = &'a (dyn Fn(&NodeReport) + Sync);

/// Streams that are shut down when Main is killed.
pub type Streams = Arc<Mutex<Vec<UnixStream>>>;

/// Where the bytes of a silent node wait.
#[derive(Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
}

/// An agent's thread, and of which node; the error is what it panicked with.
type Agent = (usize, JoinHandle<Result<(), String>>);

pub struct Net<'a> {
    run: Run,
    base: PathBuf,
    clock: VirtualClock,
    disk: Disk,
    /// Main's ends, of all runs that are under way.
    all: Streams,
    /// Those of this run.
    own: Streams,
    gate: Arc<Gate>,
    released: Released<'a>,
    agents: Mutex<Vec<Agent>>,
    /// How many nodes have answered, in the order that the script has.
    turn: (Mutex<usize>, Condvar),
}

impl<'a> Net<'a> {
    pub fn new(
        run: &Run,
        (base, clock, disk): (PathBuf, VirtualClock, Disk),
        (all, gate): (Streams, Arc<Gate>),
        released: Released<'a>,
    ) -> Net<'a> {
        Net {
            run: run.clone(),
            base,
            clock,
            disk,
            all,
            own: Arc::default(),
            gate,
            released,
            agents: Mutex::default(),
            turn: (Mutex::new(0), Condvar::new()),
        }
    }

    /// Ends this run's connections.
    pub fn hang_up(&self) {
        hang_up(&self.own);
    }

    /// Waits until no agent is at work any more. Those that broke down, but were not killed, are told.
    pub fn settle(&self) -> Vec<String> {
        let agents = std::mem::take(&mut *self.agents.lock().unwrap());
        let ended = agents.into_iter().map(|(node, agent)| (node, agent.join()));
        ended
            .filter_map(|(node, ended)| match ended {
                Ok(Ok(())) => None,
                Ok(Err(panic)) => Some(format!("the agent of node {node} panicked: {panic}")),
                Err(_) => Some(format!("the thread of node {node} broke down")),
            })
            .collect()
    }

    /// Returns when it is this node's turn to answer.
    fn await_turn(&self, node: usize) {
        let Some(place) = self.run.order.iter().position(|index| index + 1 == node) else { return };
        let mut turn = self.turn.0.lock().unwrap();
        while *turn < place {
            turn = self.turn.1.wait(turn).unwrap();
        }
    }

    fn turn_is_over(&self) {
        *self.turn.0.lock().unwrap() += 1;
        self.turn.1.notify_all();
    }

    fn open(&self, node: usize) -> Result<Remote, NodeError> {
        if self.run.away.contains(&node) {
            return Err(NodeError::new(NodeErrorKind::Unreachable, "no route"));
        }
        let (main, far) = UnixStream::pair().map_err(lost)?;
        for streams in [&self.all, &self.own] {
            streams.lock().unwrap().push(main.try_clone().map_err(lost)?);
        }
        let left = self.run.cuts.iter().find(|(cut, _)| *cut == node).map_or(i64::MAX, |(_, bytes)| *bytes);
        let slow = self.run.slow.iter().find(|(slow, _)| *slow == node);
        let slow = slow.map(|(_, millis)| (self.clock.clone(), Duration::from_millis(*millis)));
        let silent = self.run.silent.filter(|(silent, _)| *silent == node);
        let silent = silent.map(|(_, bytes)| (Arc::new(AtomicI64::new(bytes)), Arc::clone(&self.gate)));
        let far = Frail { stream: far, left: Arc::new(AtomicI64::new(left)), slow, silent };
        let (options, base) = (Arc::clone(&self.disk), self.base.clone());
        let agent = std::thread::spawn(move || {
            watch::become_host(node);
            let served = catch_unwind(AssertUnwindSafe(|| {
                let (options, own) = options(node);
                let progress = Arc::clone(&options.progress);
                let accept = accept(&base, node);
                let mut local = Local::new(options).sharing(own);
                let output = far.clone();
                let _ = agent::serve(far, output, &mut local, &accept, &progress);
            }));
            match served {
                Err(panic) if !panic.is::<watch::Killed>() => Err(words(&*panic)),
                _ => Ok(()),
            }
        });
        self.agents.lock().unwrap().push((node, agent));
        let hello = Hello { main: "01MAIN".to_owned(), epoch: 1, name: "main".to_owned() };
        let end = || main.try_clone().map(Into::into).map_err(lost);
        Remote::new(end()?, end()?, Box::new(Nobody), &hello, Duration::from_secs(20))
    }
}

pub fn hang_up(streams: &Streams) {
    for stream in &*streams.lock().unwrap() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned()
}

fn lost(error: io::Error) -> NodeError {
    NodeError::new(NodeErrorKind::Lost, error.to_string())
}

impl Connect for Net<'_> {
    fn connect(&self, node: &str) -> Result<Box<dyn NodeSession>, NodeError> {
        let number: usize = node.trim_start_matches("node").parse().unwrap();
        self.await_turn(number);
        let opened = self.open(number);
        self.turn_is_over();
        Ok(Box::new(opened?))
    }

    fn release(&self, node: &NodeReport, session: Option<Box<dyn NodeSession>>) {
        drop(session);
        (self.released)(node);
    }
}

pub fn accept(base: &std::path::Path, node: usize) -> Accept {
    Accept {
        file: base.join("node.toml"),
        roots: vec![base.to_owned()],
        read_only: false,
        machine: None,
        max_epoch: EpochLimit::NONE,
        reload: [("dialplan".to_owned(), vec!["true".to_owned()])].into(),
        state_dir: base.join(format!("h{node}/state")),
    }
}

struct Nobody;

impl Peer for Nobody {
    fn ended(&mut self) -> Ended {
        Ended::default()
    }
}

/// A stream that breaks once so many bytes have gone through it, in the middle of a message or between two.
/// A slow one lets few bytes through at a time, lets all other threads go first, and takes simulated time. A silent one lets
/// none through until its gate is opened.
struct Frail {
    stream: UnixStream,
    left: Arc<AtomicI64>,
    slow: Option<(VirtualClock, Duration)>,
    /// How many bytes go through before the rest waits.
    silent: Option<(Arc<AtomicI64>, Arc<Gate>)>,
}

/// How many bytes go over a slow line at a time, and how often others go first.
const SLOW_BYTES: usize = 700;
const SLOW_TURNS: usize = 20;

impl Clone for Frail {
    fn clone(&self) -> Frail {
        let stream = self.stream.try_clone().unwrap();
        Frail { stream, left: Arc::clone(&self.left), slow: self.slow.clone(), silent: self.silent.clone() }
    }
}

impl Frail {
    /// How many of so many bytes go through now.
    fn passing(&self, bytes: usize) -> usize {
        if let Some((left, gate)) = &self.silent
            && left.load(Ordering::Relaxed) <= 0
        {
            gate.pass();
        }
        let Some((clock, time)) = &self.slow else { return bytes };
        clock.advance(*time);
        (0..SLOW_TURNS).for_each(|_| std::thread::yield_now());
        bytes.min(SLOW_BYTES)
    }

    fn spend(&self, bytes: usize) -> io::Result<usize> {
        if let Some((left, _)) = &self.silent {
            left.fetch_sub(bytes as i64, Ordering::Relaxed);
        }
        let left = self.left.fetch_sub(bytes as i64, Ordering::Relaxed);
        if left >= bytes as i64 {
            return Ok(bytes);
        }
        if left > 0 {
            return Ok(usize::try_from(left).unwrap());
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn hang_up_when_spent(&self) {
        if self.left.load(Ordering::Relaxed) <= 0 {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Read for Frail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.passing(buffer.len());
        let read = self.stream.read(&mut buffer[..most])?;
        let read = self.spend(read);
        self.hang_up_when_spent();
        read
    }
}

impl Write for Frail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.spend(self.passing(bytes.len()));
        let written = taken.and_then(|taken| self.stream.write(&bytes[..taken]));
        self.hang_up_when_spent();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
