//! The node's end of a connection: serves a [`NodeSession`] on a stream, as far as the node accepts it.

mod answers;
mod change_log;
mod contents;
mod error;
mod pending_commit;
mod session;
mod watcher;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Duration;

use self::error::{broken, lost};
use self::session::AgentSession;
use self::watcher::Watcher;
use super::accept::Accept;
use super::binding;
use super::endpoint::NodeSession;
use super::error::{NodeError, NodeErrorKind};
use super::heartbeat::Heartbeat;
use super::protocol::check;
use super::protocol::frame::{Kind, read_frame, write_value};
use super::protocol::handshake::{Hello, MAGIC, MainHello, Versions, decode_hello};
use super::protocol::limits::MAX_DATA;
use super::protocol::message::Reply;

/// Shortest and longest time between keep-alives, whatever Main's timeout is.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3600));

/// Serves `host` until Main closes `input`.
///
/// `progress` is counted up by whatever the host does: as long as it moves, Main gets keep-alives. The error
/// is the one that was sent to Main, if anything could be sent.
pub fn serve(
    input: impl Read,
    output: impl Write + Send,
    host: &mut dyn NodeSession,
    accept: &Accept,
    progress: &AtomicU64,
) -> Result<(), NodeError> {
    let heartbeat = Heartbeat::new(BufWriter::with_capacity(MAX_DATA, output), progress);
    let mut input = BufReader::with_capacity(MAX_DATA, input);
    let served = match receive_hello(&mut input, &heartbeat) {
        Ok(None) => Ok(()),
        Ok(Some((main, version))) => {
            let served = serve_main(&mut input, &heartbeat, host, accept, &main, version);
            served.inspect_err(|error| log_error(error, Some(&main.hello)))
        }
        Err(error) => Err(error).inspect_err(|error| log_error(error, None)),
    };
    if let Err(error) = &served {
        // Main may be gone.
        let _ = send_error(&mut *heartbeat.output(), error);
    }
    served
}

/// Answers Main's handshake with this error: the node cannot serve, and Main is to know why.
pub(crate) fn decline(output: &mut dyn Write, error: &NodeError) -> io::Result<()> {
    log_error(error, None);
    send_versions(output)?;
    send_error(output, error)
}

/// Welcomes a Main that the node obeys, and serves it.
fn serve_main<W: Write + Send>(
    input: &mut dyn Read,
    heartbeat: &Heartbeat<'_, W>,
    host: &mut dyn NodeSession,
    accept: &Accept,
    main: &MainHello,
    version: u16,
) -> Result<(), NodeError> {
    binding::check(&accept.state_dir, &main.hello)?;
    binding::check_epoch(accept, &main.hello)?;
    send_reply(heartbeat, &Reply::Welcome(version))?;
    let interval = (Duration::from_millis(main.timeout_ms) / 4).clamp(KEEP_ALIVE.0, KEEP_ALIVE.1);
    let gone = host.stop_flag();
    let watcher = Watcher::new().map_err(lost)?;
    let mut session = AgentSession::new(input, heartbeat, host, (accept, &watcher), &main.hello);
    std::thread::scope(|scope| {
        // Dropped when the session ends, however it ends.
        let (_stop, stopped) = mpsc::channel();
        scope.spawn(|| {
            let stopped = stopped;
            heartbeat.run(interval, &stopped, &gone);
        });
        scope.spawn(|| watcher.run(heartbeat));
        let _end = watcher.end_when_dropped();
        session.run()
    })
}

/// Begins the handshake and reads Main's part of it; `None` when nobody is there.
fn receive_hello<W: Write>(
    input: &mut dyn Read,
    heartbeat: &Heartbeat<'_, W>,
) -> Result<Option<(MainHello, u16)>, NodeError> {
    send_versions(&mut *heartbeat.output()).map_err(lost)?;
    let mut payload = Vec::new();
    match read_frame(input, &mut payload).map_err(lost)? {
        None => return Ok(None),
        Some(Kind::Hello) => {}
        Some(kind) => return Err(broken(format!("expected a hello, got a {kind:?} frame"))),
    }
    let version = Versions::common(&decode_hello(&payload).map_err(lost)?, &Versions::ours())?;
    let main: MainHello = decode_hello(&payload).map_err(lost)?;
    check::id(&main.hello.main).map_err(lost)?;
    let hello = Hello { name: check::text(&main.hello.name), ..main.hello };
    Ok(Some((MainHello { hello, ..main }, version)))
}

fn send_versions(output: &mut dyn Write) -> io::Result<()> {
    output.write_all(&MAGIC)?;
    write_value(output, Kind::Hello, &Versions::ours())?;
    output.flush()
}

fn send_error(output: &mut dyn Write, error: &NodeError) -> io::Result<()> {
    let error = NodeError { detail: check::clip(error.detail.clone()), ..error.clone() };
    write_value(output, Kind::Failed, &error)?;
    output.flush()
}

fn send_reply<W: Write>(heartbeat: &Heartbeat<'_, W>, reply: &Reply) -> Result<(), NodeError> {
    let mut output = heartbeat.output();
    write_value(&mut *output, Kind::Reply, reply).and_then(|()| output.flush()).map_err(lost)
}

/// Logs that Main was refused. A connection that merely ended is Main's to report.
fn log_error(error: &NodeError, main: Option<&Hello>) {
    let detail = check::text(&error.detail);
    match (error.kind, main) {
        (NodeErrorKind::Lost, _) => {}
        (_, Some(Hello { main, epoch, name })) => {
            log::warn!("refused: main={name} id={main} epoch={epoch}: {detail}");
        }
        (_, None) => log::warn!("refused: {detail}"),
    }
}
