//! The logger behind the `log` macros: this host's syslog and, for a command, warnings and errors on stderr.
//!
//! It is installed once in a process and shows nothing in syslog until [`use_syslog`] was called, so that a dry run
//! leaves nothing there. A host without a syslog daemon never makes a command fail or wait.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use syslog::{Facility, Formatter3164, LoggerBackend};

use crate::model::escape::{clean, plain};

/// The name of all lines: `grep xivo-xds-sync /var/log/syslog` shows everything.
pub(crate) const IDENT: &str = "xivo-xds-sync";
/// Where lines go until a configuration was read.
pub(crate) const DEFAULT_FACILITY: &str = "daemon";
/// Target of records for syslog alone, because the command prints the same by other means.
pub(crate) const SYSLOG_ONLY: &str = "xds_sync::syslog_only";
/// Where syslog daemons listen.
const SOCKET: &str = "/dev/log";
/// A daemon that has stopped reading delays a command by this much, once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Shows a warning or an error to the person who started the command.
pub(crate) type Console = Box<dyn Fn(Level, &str) + Send + Sync>;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Installs the logger of this process; further calls change nothing. `pid` stands in every syslog line.
pub(crate) fn install(pid: u32, console: Console) {
    let logger = LOGGER.get_or_init(|| Logger::new(pid, Path::new(SOCKET), console));
    // It fails where a logger is installed already: this one.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Sends what is logged from now on to syslog as well. An unknown facility is the default one.
pub(crate) fn use_syslog(facility: &str) {
    if let Some(logger) = LOGGER.get() {
        logger.use_syslog(facility);
    }
}

type Connection = syslog::Logger<LoggerBackend, Formatter3164>;

struct Logger {
    pid: u32,
    socket: PathBuf,
    console: Console,
    syslog: Mutex<Syslog>,
}

enum Syslog {
    /// Nothing goes there.
    Off,
    /// It is connected to with the first line.
    Pending(Facility),
    Connected(Facility, Box<Connection>),
    /// It could not be reached or did not read. The user was told once; the lines are lost.
    Unavailable,
}

impl Logger {
    fn new(pid: u32, socket: &Path, console: Console) -> Logger {
        Logger { pid, socket: socket.to_owned(), console, syslog: Mutex::new(Syslog::Off) }
    }

    fn use_syslog(&self, facility: &str) {
        let facility = facility.parse().unwrap_or(Facility::LOG_DAEMON);
        let mut syslog = self.syslog.lock().unwrap_or_else(PoisonError::into_inner);
        match &*syslog {
            Syslog::Connected(present, _) if *present as u32 == facility as u32 => {}
            _ => *syslog = Syslog::Pending(facility),
        }
    }

    fn connect(&self, facility: Facility) -> Result<Connection, syslog::Error> {
        // Without a host name: this is the form of syslog(3), which every daemon on /dev/log expects.
        let formatter = Formatter3164 { facility, hostname: None, process: IDENT.to_owned(), pid: self.pid };
        let connection = syslog::unix_custom(formatter, &self.socket)?;
        match &connection.backend {
            LoggerBackend::Unix(socket) => socket.set_write_timeout(Some(WRITE_TIMEOUT))?,
            LoggerBackend::UnixStream(stream) => stream.get_ref().set_write_timeout(Some(WRITE_TIMEOUT))?,
            LoggerBackend::Tcp(_) | LoggerBackend::Udp(..) => {}
        }
        Ok(connection)
    }

    fn to_syslog(&self, level: Level, text: &str) {
        let mut syslog = self.syslog.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match &mut *syslog {
            Syslog::Off | Syslog::Unavailable => return,
            Syslog::Pending(facility) => {
                let facility = *facility;
                self.connect(facility).and_then(|mut connection| {
                    send(&mut connection, level, text)?;
                    *syslog = Syslog::Connected(facility, Box::new(connection));
                    Ok(())
                })
            }
            Syslog::Connected(facility, connection) => match send(connection, level, text) {
                // A daemon that was restarted listens on a new socket; one that does not read stays as it is.
                Err(error) if !is_timeout(&error) => self.connect(*facility).and_then(|mut again| {
                    send(&mut again, level, text)?;
                    **connection = again;
                    Ok(())
                }),
                sent => sent,
            },
        };
        if let Err(error) = sent {
            *syslog = Syslog::Unavailable;
            drop(syslog);
            (self.console)(Level::Warn, &format!("nothing is written to syslog: {error}"));
        }
    }
}

impl Log for Logger {
    /// Other crates log for their own developers.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info && metadata.target().starts_with("xds_sync")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        // What tells of files alone tells their names as they are.
        let is_trouble = record.level() <= Level::Warn;
        let text = clean(&if is_trouble { plain(&text) } else { text });
        if is_trouble && record.target() != SYSLOG_ONLY {
            (self.console)(record.level(), &text);
        }
        self.to_syslog(record.level(), &text);
    }

    fn flush(&self) {}
}

fn send(connection: &mut Connection, level: Level, text: &str) -> Result<(), syslog::Error> {
    match level {
        Level::Error => connection.err(text),
        Level::Warn => connection.warning(text),
        Level::Info | Level::Debug | Level::Trace => connection.info(text),
    }
}

fn is_timeout(error: &syslog::Error) -> bool {
    match error {
        syslog::Error::Write(error) | syslog::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        }
        syslog::Error::Initialization(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;

    use super::*;

    type Shown = Arc<Mutex<Vec<String>>>;

    fn logger(socket: &Path) -> (Logger, Shown) {
        let shown = Shown::default();
        let console = {
            let shown = Arc::clone(&shown);
            move |level: Level, text: &str| shown.lock().unwrap().push(format!("{level} {text}"))
        };
        (Logger::new(4711, socket, Box::new(console)), shown)
    }

    fn log(logger: &Logger, target: &str, level: Level, text: &str) {
        logger.log(&Record::builder().target(target).level(level).args(format_args!("{text}")).build());
    }

    fn receive(socket: &UnixDatagram) -> String {
        let mut line = [0; 1024];
        let length = socket.recv(&mut line).unwrap();
        String::from_utf8(line[..length].to_vec()).unwrap()
    }

    fn bind(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn syslog_gets_every_line_and_the_console_warnings_and_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let syslog = bind(&path);
        let (logger, shown) = logger(&path);
        log(&logger, "xds_sync::sync", Level::Warn, "before syslog is used");
        assert!(syslog.recv(&mut [0; 8]).is_err());

        logger.use_syslog("local3");
        for (target, level, text) in [
            ("xds_sync::cli", Level::Info, "changed"),
            ("xds_sync::sync", Level::Warn, "two\nlines"),
            (SYSLOG_ONLY, Level::Error, "printed elsewhere"),
            ("rustls", Level::Error, "of another crate"),
            ("xds_sync::sync", Level::Debug, "too much"),
        ] {
            log(&logger, target, level, text);
        }
        let lines = [receive(&syslog), receive(&syslog), receive(&syslog)];
        // Facility local3 is 19; the priority is 8 times that and the severity.
        for (line, (priority, text)) in
            lines.iter().zip([(158, "changed"), (156, "two\\x0alines"), (155, "printed elsewhere")])
        {
            assert!(line.starts_with(&format!("<{priority}>")), "{line}");
            assert!(line.ends_with(&format!("xivo-xds-sync[4711]: {text}")), "{line}");
        }
        assert!(syslog.recv(&mut [0; 8]).is_err());
        assert_eq!(*shown.lock().unwrap(), ["WARN before syslog is used", "WARN two\\x0alines"]);
    }

    #[test]
    fn a_missing_syslog_is_shown_once_and_a_restarted_one_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (logger, shown) = logger(&path);
        logger.use_syslog(DEFAULT_FACILITY);
        for _ in 0..3 {
            log(&logger, "xds_sync", Level::Info, "lost");
        }
        let lines = shown.lock().unwrap().clone();
        assert!(
            matches!(&lines[..], [line] if line.starts_with("WARN nothing is written to syslog: ")),
            "{lines:?}"
        );

        for text in ["first", "after a restart"] {
            let _ = std::fs::remove_file(&path);
            let syslog = bind(&path);
            logger.use_syslog(DEFAULT_FACILITY);
            log(&logger, "xds_sync", Level::Info, text);
            assert!(receive(&syslog).ends_with(text));
        }
        assert_eq!(shown.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_syslog_that_does_not_read_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let _unread = bind(&path);
        let (logger, shown) = logger(&path);
        logger.use_syslog(DEFAULT_FACILITY);
        // Far more than a socket holds.
        for _ in 0..100_000 {
            log(&logger, "xds_sync", Level::Info, "unread");
        }
        assert_eq!(shown.lock().unwrap().len(), 1);
    }
}
