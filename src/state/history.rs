//! What each run did: `history.db`, an SQLite database of runs and their changes.
//!
//! Nothing that a run decides depends on it. So a damaged one never stops a run: it is set aside, and a new one is
//! started. A run is written in one transaction when it is over, in SQLite's rollback journal: there is one file
//! at rest, nothing is left beside it by a process that was killed but what the next one rolls back, and whoever
//! reads meanwhile sees all of a run or nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params};

use crate::model::words::UnknownWord;
use crate::model::{NodeChange, RelPath, RelPathBuf};

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its ULID.
    pub run: String,
    /// When it began, in whole milliseconds.
    pub started: SystemTime,
    /// How long it took, in whole milliseconds.
    pub duration: Duration,
    /// What the process ended with.
    pub exit_code: u8,
    /// What went wrong, a line each.
    pub wrong: Vec<String>,
    /// Its changes, in the order of its report.
    pub changes: Vec<NodeChange>,
}

/// Which runs to return, and which of their changes. What is `None` limits nothing. A run without any of these
/// changes is returned only where nothing but the time is limited.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of this directory.
    pub directory: Option<String>,
    /// At this path, or below it.
    pub path: Option<RelPathBuf>,
    /// Of this node.
    pub node: Option<String>,
    /// Of runs that began then or later.
    pub since: Option<SystemTime>,
    /// Of so many runs that match, the newest ones.
    pub last: Option<usize>,
}

/// How long a run is kept: a year and a month, so that last year's summer can be looked up.
const KEEP: Duration = Duration::from_secs(400 * 24 * 3600);
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Most runs that are kept, whatever their age: four months of one each minute, some 10 MB.
const MOST_RUNS: i64 = 200_000;
/// Most changes that are kept, over all runs: some 80 MB.
const MOST_CHANGES: i64 = 500_000;
/// How long to wait for another process that reads or writes; each takes milliseconds.
const WAIT: Duration = Duration::from_secs(5);
/// `user_version` of the database.
const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE run (
        number INTEGER PRIMARY KEY,
        run TEXT NOT NULL,
        started_ms INTEGER NOT NULL,
        duration_ms INTEGER NOT NULL,
        exit_code INTEGER NOT NULL,
        -- Lines.
        wrong TEXT NOT NULL
    ) STRICT;
    CREATE TABLE change (
        number INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        directory TEXT NOT NULL,
        node TEXT NOT NULL,
        side TEXT NOT NULL,
        action TEXT NOT NULL,
        path BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        is_dir INTEGER NOT NULL,
        reason TEXT,
        id TEXT
    ) STRICT;
    CREATE INDEX change_of_run ON change (run);
    PRAGMA user_version = 2;";

/// The database of one Main.
#[derive(Clone, Debug)]
pub struct History {
    path: PathBuf,
}

/// Why the database cannot be used.
enum Trouble {
    /// It does not contain what was written: it can only be set aside.
    Damaged(String),
    /// It may be fine: the disk is full, or another process has locked it.
    Other(anyhow::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        let is_damage = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => matches!(
                failure.code,
                // `Unknown` is SQLite's plain error: a table or column that is not there.
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
            ),
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => true,
            _ => false,
        };
        if is_damage { Trouble::Damaged(error.to_string()) } else { Trouble::Other(error.into()) }
    }
}

impl History {
    pub(super) fn at(path: PathBuf) -> History {
        History { path }
    }

    /// Records a run, and drops those that are kept no longer. `Ok(Some(warning))`: the database was damaged, and is set
    /// aside.
    pub fn record(&self, run: &RunRecord) -> anyhow::Result<Option<String>> {
        let why = match self.write(run) {
            Ok(()) => return Ok(None),
            Err(Trouble::Other(error)) => return Err(error.context(self.cannot("write"))),
            Err(Trouble::Damaged(why)) => why,
        };
        let aside = self.set_aside().with_context(|| self.cannot("set aside"))?;
        match self.write(run) {
            Ok(()) => Ok(Some(format!(
                "{} cannot be trusted: {why}; it is set aside as {}, and a new history is started",
                self.path.display(),
                aside.display()
            ))),
            Err(Trouble::Other(error)) => Err(error.context(self.cannot("write"))),
            Err(Trouble::Damaged(why)) => Err(anyhow!(why).context(self.cannot("write"))),
        }
    }

    /// The runs that match, the oldest first.
    pub fn runs(&self, asked: &Asked) -> anyhow::Result<Vec<RunRecord>> {
        if !self.path.try_exists().with_context(|| self.cannot("read"))? {
            return Ok(Vec::new());
        }
        self.read(asked).map_err(|trouble| match trouble {
            Trouble::Other(error) => error.context(self.cannot("read")),
            Trouble::Damaged(why) => anyhow!(
                "{} cannot be trusted: {why}; the next run sets it aside and starts a new one",
                self.path.display()
            ),
        })
    }

    fn cannot(&self, what: &str) -> String {
        format!("cannot {what} {}", self.path.display())
    }

    fn write(&self, run: &RunRecord) -> Result<(), Trouble> {
        let mut connection = self.open()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&transaction)? == 0 {
            transaction.execute_batch(SCHEMA)?;
        }
        transaction.execute(
            "INSERT INTO run (run, started_ms, duration_ms, exit_code, wrong) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                run.run,
                milliseconds(run.started),
                run.duration.as_millis() as i64,
                run.exit_code,
                run.wrong.join("\n"),
            ],
        )?;
        let number = transaction.last_insert_rowid();
        {
            let mut insert = transaction.prepare(
                "INSERT INTO change (run, directory, node, side, action, path, bytes, is_dir, reason, id)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            for change in run.changes.iter().take(MOST_CHANGES as usize) {
                insert.execute(params![
                    number,
                    &*change.directory,
                    &*change.node,
                    change.to.word(),
                    change.kind.word(),
                    change.path.as_bytes(),
                    i64::try_from(change.bytes).unwrap_or(i64::MAX),
                    change.is_dir,
                    change.reason.as_deref(),
                    change.id.as_deref(),
                ])?;
            }
        }
        drop_oldest(&transaction, milliseconds(run.started), number)?;
        Ok(transaction.commit()?)
    }

    fn read(&self, asked: &Asked) -> Result<Vec<RunRecord>, Trouble> {
        // Nothing is made or written here, so that a history can be read on a disk that is read-only. SQLite would not say
        // why it cannot open a file.
        fs::File::open(&self.path).map_err(|error| Trouble::Other(error.into()))?;
        let connection = self.connect()?;
        if version(&connection)? == 0 {
            return Ok(Vec::new());
        }
        let mut select = connection.prepare(
            "SELECT run.number, run.run, started_ms, duration_ms, exit_code, wrong,
                    directory, node, side, action, path, bytes, is_dir, reason, id
             FROM run LEFT JOIN change ON change.run = run.number
                  AND (?1 IS NULL OR directory = ?1) AND (?2 IS NULL OR node = ?2)
                  AND (?3 IS NULL OR path = ?3 OR (path > ?4 AND path < ?5))
             WHERE started_ms >= ?6 AND (?7 OR change.number IS NOT NULL)
             ORDER BY run.number, change.number",
        )?;
        // All paths below `a` are between `a/` and `a0`: the slash comes right before the zero.
        let path = asked.path.as_deref().map(RelPath::as_bytes);
        let [from, to] = [b"/", b"0"].map(|end| path.map(|path| [path, end].concat()));
        let is_all = asked.directory.is_none() && asked.node.is_none() && path.is_none();
        let since = asked.since.map_or(0, milliseconds);
        let mut rows = select.query(params![asked.directory, asked.node, path, from, to, since, is_all])?;
        let mut runs: Vec<RunRecord> = Vec::new();
        let mut last = None;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            if last.replace(number) != Some(number) {
                runs.push(run_of(row)?);
            }
            if let Some(run) = runs.last_mut()
                && row.get::<_, Value>(6)? != Value::Null
            {
                run.changes.push(change_of(row)?);
            }
        }
        let before_last = asked.last.map_or(0, |last| runs.len().saturating_sub(last));
        runs.drain(..before_last);
        Ok(runs)
    }

    fn open(&self) -> Result<Connection, Trouble> {
        // SQLite would create it readable for everybody. Its journal gets the mode of the file.
        let made = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        let own = made.and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600)));
        own.map_err(|error| Trouble::Other(error.into()))?;
        self.connect()
    }

    fn connect(&self) -> Result<Connection, Trouble> {
        // What may only be read is opened all the same.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(WAIT)?;
        match version(&connection)? {
            0 | VERSION => Ok(connection),
            other => Err(Trouble::Damaged(format!(
                "it has version {other}, and this xds-sync knows version {VERSION}"
            ))),
        }
    }

    /// Renames the database, and with it its journal, which must not be rolled back into the next one.
    fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = with_end(&self.path, ".damaged");
        fs::rename(&self.path, &aside)?;
        match fs::rename(with_end(&self.path, "-journal"), with_end(&aside, "-journal")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(aside),
        }
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The number of changes: the oldest are dropped first, so the numbers have no gaps. SQLite finds the minimum or the
/// maximum without reading what is between, but only in a query of its own.
const CHANGES: &str =
    "SELECT ifnull((SELECT max(number) FROM change) - (SELECT min(number) FROM change) + 1, 0)";
const BEFORE: &str = "SELECT started_ms FROM run WHERE number < ?1 ORDER BY number DESC LIMIT 1";
const OLDEST: &str = "SELECT number, started_ms FROM run ORDER BY number LIMIT 1";

/// Drops the oldest runs while there are too many or they are too old; never `newest`. A clock that jumps ahead makes
/// nothing old: it is believed up to a day after the run before, and those that are too old are of one day.
fn drop_oldest(connection: &Connection, now_ms: i64, newest: i64) -> rusqlite::Result<()> {
    let before: Option<i64> = connection.query_row(BEFORE, [newest], |row| row.get(0)).optional()?;
    let mut believed_ms = before.map_or(now_ms, |before| now_ms.min(before.saturating_add(DAY_MS)));
    loop {
        let changes: i64 = connection.query_row(CHANGES, [], |row| row.get(0))?;
        let found = connection.query_row(OLDEST, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((number, started_ms)): Option<(i64, i64)> = found else { return Ok(()) };
        if number == newest
            || !is_too_much(
                believed_ms.saturating_sub(started_ms),
                newest.saturating_sub(number).saturating_add(1),
                changes,
            )
        {
            return Ok(());
        }
        // From here on a run is too old only if it is of the same day as the first that goes.
        let day_after = started_ms.saturating_add(KEEP.as_millis() as i64).saturating_add(DAY_MS);
        believed_ms = believed_ms.min(day_after);
        connection.execute("DELETE FROM change WHERE run = ?1", [number])?;
        connection.execute("DELETE FROM run WHERE number = ?1", [number])?;
    }
}

/// Whether the oldest run is dropped: it is `age_ms` old, and there are this many runs and changes in all.
fn is_too_much(age_ms: i64, runs: i64, changes: i64) -> bool {
    age_ms > KEEP.as_millis() as i64 || runs > MOST_RUNS || changes > MOST_CHANGES
}

fn run_of(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let milliseconds = |at: usize| -> rusqlite::Result<Duration> {
        Ok(Duration::from_millis(row.get::<_, i64>(at)?.unsigned_abs()))
    };
    let wrong: String = row.get(5)?;
    Ok(RunRecord {
        run: row.get(1)?,
        started: UNIX_EPOCH + milliseconds(2)?,
        duration: milliseconds(3)?,
        exit_code: row.get(4)?,
        wrong: wrong.lines().map(str::to_owned).collect(),
        changes: Vec::new(),
    })
}

fn change_of(row: &Row<'_>) -> Result<NodeChange, Trouble> {
    let path: Vec<u8> = row.get(10)?;
    let path = RelPathBuf::new(path).map_err(|bad| Trouble::Damaged(bad.to_string()))?;
    Ok(NodeChange {
        directory: row.get(6)?,
        node: row.get(7)?,
        to: parse(&row.get::<_, String>(8)?)?,
        kind: parse(&row.get::<_, String>(9)?)?,
        path,
        bytes: row.get::<_, i64>(11)?.unsigned_abs(),
        is_dir: row.get(12)?,
        reason: row.get(13)?,
        id: row.get(14)?,
    })
}

fn parse<T: FromStr<Err = UnknownWord>>(text: &str) -> Result<T, Trouble> {
    text.parse().map_err(|error: UnknownWord| Trouble::Damaged(error.to_string()))
}

/// Since 1970.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{ChangeKind, Side};

    fn history() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::at(dir.path().join("history.db"));
        (dir, history)
    }

    fn path(bytes: &[u8]) -> RelPathBuf {
        RelPathBuf::new(bytes).unwrap()
    }

    fn change(directory: &str, node: &str, at: &[u8]) -> NodeChange {
        NodeChange {
            directory: directory.into(),
            node: node.into(),
            to: Side::Node,
            kind: ChangeKind::Update,
            path: path(at),
            bytes: 5,
            is_dir: true,
            reason: Some("two\nlines".into()),
            id: Some("01KQ-0".into()),
        }
    }

    fn run(day: u64, changes: Vec<NodeChange>) -> RunRecord {
        RunRecord {
            run: format!("01RUN{day}"),
            started: UNIX_EPOCH + Duration::from_secs(day * 24 * 3600),
            duration: Duration::from_millis(412),
            exit_code: 25,
            wrong: vec!["mds2 unreachable".to_owned(), "it went wrong".to_owned()],
            changes,
        }
    }

    fn told(history: &History, asked: &Asked) -> Vec<(String, Vec<String>)> {
        let runs = history.runs(asked).unwrap();
        let paths = |run: &RunRecord| run.changes.iter().map(|change| change.path.escaped()).collect();
        runs.iter().map(|run| (run.run.clone(), paths(run))).collect()
    }

    #[test]
    fn a_run_is_read_as_written() {
        let (_dir, history) = history();
        assert_eq!(history.runs(&Asked::default()).unwrap(), []);
        let mut changes = vec![change("moh", "mds1", b"jazz/\xff\n.wav")];
        for to in Side::ALL {
            for kind in ChangeKind::ALL {
                let of_mds1 = change("moh", "mds1", b"a");
                changes.push(NodeChange { to, kind, reason: None, id: None, ..of_mds1 });
            }
        }
        let written = [run(1, changes), run(2, Vec::new())];
        for run in &written {
            assert_eq!(history.record(run).unwrap(), None);
        }
        assert_eq!(history.runs(&Asked::default()).unwrap(), written);
        assert_eq!(fs::metadata(&history.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_asked_for_is_told() {
        let (_dir, history) = history();
        let changes = vec![
            change("moh", "mds1", b"jazz"),
            change("moh", "mds1", b"jazz/a.wav"),
            change("moh", "mds2", b"jazz.wav"),
            change("moh", "mds2", b"jazz0"),
            change("sounds", "mds1", b"jazz/b.wav"),
        ];
        history.record(&run(1, changes)).unwrap();
        history.record(&run(2, Vec::new())).unwrap();
        history.record(&run(3, vec![change("sounds", "mds2", b"c.wav")])).unwrap();
        let some = |text: &str| Some(text.to_owned());
        for (asked, expected) in [
            (
                Asked { directory: some("moh"), path: Some(path(b"jazz")), ..Asked::default() },
                &[("01RUN1", &["jazz", "jazz/a.wav"][..])][..],
            ),
            (
                Asked { node: some("mds2"), ..Asked::default() },
                &[("01RUN1", &["jazz.wav", "jazz0"][..]), ("01RUN3", &["c.wav"][..])],
            ),
            (Asked { directory: some("recordings"), ..Asked::default() }, &[]),
            (
                Asked { since: Some(run(2, Vec::new()).started), ..Asked::default() },
                &[("01RUN2", &[][..]), ("01RUN3", &["c.wav"][..])],
            ),
            (Asked { last: Some(1), ..Asked::default() }, &[("01RUN3", &["c.wav"][..])]),
            (
                Asked { last: Some(1), directory: some("moh"), ..Asked::default() },
                &[("01RUN1", &["jazz", "jazz/a.wav", "jazz.wav", "jazz0"][..])],
            ),
            (Asked { since: Some(run(4, Vec::new()).started), node: some("mds1"), ..Asked::default() }, &[]),
        ] {
            let expected: Vec<(String, Vec<String>)> = expected
                .iter()
                .map(|(run, paths)| ((*run).to_owned(), paths.iter().map(|&path| path.to_owned()).collect()))
                .collect();
            assert_eq!(told(&history, &asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn what_is_no_history_is_set_aside_and_told() {
        for damage in [&b"not a database, and longer than a header of one; ".repeat(40)[..], b"short"] {
            let (dir, history) = history();
            fs::write(&history.path, damage).unwrap();
            fs::write(with_end(&history.path, "-journal"), "of the damaged one").unwrap();
            assert!(history.runs(&Asked::default()).is_err());
            let told = history.record(&run(1, Vec::new())).unwrap().unwrap();
            assert!(
                told.contains("history.db cannot be trusted") && told.contains("history.db.damaged"),
                "{told}"
            );
            assert_eq!(fs::read(dir.path().join("history.db.damaged")).unwrap(), damage);
            assert_eq!(history.runs(&Asked::default()).unwrap().len(), 1);
            assert_eq!(history.record(&run(2, Vec::new())).unwrap(), None);
        }
    }

    #[test]
    fn damage_within_is_found_and_another_version_is_no_history_of_ours() {
        let (dir, history) = history();
        let many = (0..500).map(|n| change("moh", "mds1", format!("{n}.wav").as_bytes())).collect();
        history.record(&run(1, many)).unwrap();
        let good = fs::read(&history.path).unwrap();
        let mut damaged = good.clone();
        damaged[4096..].fill(0x55);
        fs::write(&history.path, &damaged).unwrap();
        assert!(history.record(&run(2, Vec::new())).unwrap().is_some());

        fs::write(&history.path, &good).unwrap();
        Connection::open(&history.path).unwrap().execute_batch("PRAGMA user_version = 7").unwrap();
        assert!(history.runs(&Asked::default()).unwrap_err().to_string().contains("version 7"));
        assert!(history.record(&run(2, Vec::new())).unwrap().unwrap().contains("version 7"));

        fs::write(&history.path, &good).unwrap();
        Connection::open(&history.path).unwrap().execute_batch("DROP TABLE change").unwrap();
        assert!(history.record(&run(2, Vec::new())).unwrap().is_some());
        drop(dir);
    }

    #[test]
    fn a_history_that_cannot_be_written_is_an_error_and_stays() {
        let (_dir, history) = history();
        fs::create_dir(&history.path).unwrap();
        let error = history.record(&run(1, Vec::new())).unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        assert!(history.path.is_dir());
    }

    #[test]
    fn how_much_is_too_much() {
        let keep = KEEP.as_millis() as i64;
        for (age_ms, runs, changes, too_much) in [
            (0, 1, 0, false),
            (keep, MOST_RUNS, MOST_CHANGES, false),
            (keep + 1, 2, 0, true),
            (0, MOST_RUNS + 1, 0, true),
            (0, 2, MOST_CHANGES + 1, true),
            // A clock that went back makes nothing old.
            (-keep, 2, 0, false),
        ] {
            assert_eq!(is_too_much(age_ms, runs, changes), too_much, "{age_ms} {runs} {changes}");
        }
    }

    #[test]
    fn what_stays_is_not_read_to_see_what_goes() {
        let (_dir, history) = history();
        history.record(&run(1, vec![change("moh", "mds1", b"a"); 3])).unwrap();
        let connection = Connection::open(&history.path).unwrap();
        for query in [CHANGES, OLDEST] {
            // The virtual machine's steps grow with the rows that are read.
            let steps = || {
                let mut statement = connection.prepare(query).unwrap();
                statement.query_row([], |row| row.get::<_, i64>(0)).unwrap();
                statement.get_status(rusqlite::StatementStatus::VmStep)
            };
            let few = steps();
            history.record(&run(2, vec![change("moh", "mds1", b"a"); 1000])).unwrap();
            assert_eq!(steps(), few, "{query}");
        }
        let changes: i64 = connection.query_row(CHANGES, [], |row| row.get(0)).unwrap();
        assert_eq!(changes, 2003);
    }

    #[test]
    fn old_runs_are_forgotten_with_their_changes() {
        let (_dir, history) = history();
        history.record(&run(1, vec![change("moh", "mds1", b"a")])).unwrap();
        history.record(&run(2, Vec::new())).unwrap();
        history.record(&run(401, vec![change("moh", "mds1", b"b")])).unwrap();
        assert_eq!(told(&history, &Asked::default()).len(), 3);
        history.record(&run(402, Vec::new())).unwrap();
        let left: Vec<String> = told(&history, &Asked::default()).into_iter().map(|(run, _)| run).collect();
        assert_eq!(left, ["01RUN2", "01RUN401", "01RUN402"]);
        let connection = Connection::open(&history.path).unwrap();
        let changes: i64 = connection.query_row("SELECT count(*) FROM change", [], |row| row.get(0)).unwrap();
        assert_eq!(changes, 1);
    }

    #[test]
    fn a_clock_that_jumps_ahead_drops_nothing_and_one_that_stays_ahead_a_day_in_each_run() {
        let (_dir, history) = history();
        for day in 1..=5 {
            history.record(&run(day, Vec::new())).unwrap();
        }
        let left =
            || -> Vec<String> { told(&history, &Asked::default()).into_iter().map(|(run, _)| run).collect() };
        history.record(&run(10_000, Vec::new())).unwrap();
        assert_eq!(left(), ["01RUN1", "01RUN2", "01RUN3", "01RUN4", "01RUN5", "01RUN10000"]);
        history.record(&run(10_001, Vec::new())).unwrap();
        assert_eq!(left(), ["01RUN2", "01RUN3", "01RUN4", "01RUN5", "01RUN10000", "01RUN10001"]);
    }
}
