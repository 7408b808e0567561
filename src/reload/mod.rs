//! Stage 5: changed paths → a running Asterisk that has loaded them.
//!
//! [`select`] tells what is owed. [`run`] runs the node's command for it, reads from Asterisk's words what came
//! of it, and then looks whether what lies in the directories shows, whoever put it there: Asterisk calls a broken
//! dialplan "reloaded", too.

mod asterisk;
mod command;
mod contexts;
mod dialplan;
mod includes;
mod music;
pub mod select;
mod shows;
mod verify;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::model::{ReloadOutcome, ReloadState};
use asterisk::{Verdict, asking, verdict};
use command::{Answer, Keep};
use verify::Shown;

/// A reload by its name, and what must show in Asterisk afterwards. Main names it; the node's own
/// `node.toml` says which command that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadRequest {
    /// `dialplan`, `moh`, or another name that the node knows.
    pub name: String,
    /// The roots on the node of the directories that name this reload.
    pub roots: Vec<PathBuf>,
    /// A command that has not ended by then is killed, and the reload has failed.
    pub timeout: Duration,
}

/// Runs a reload with the node's command of that name, and verifies it. All of it ends within the request's
/// timeout.
///
/// A command of the form `asterisk … -rx WORDS` is understood: its words count, not its exit code, and after
/// `dialplan` and `moh` the same Asterisk is asked what it has loaded. Of any other command the exit code
/// counts. Commands get `environment` and nothing else: Main's ssh may set variables in the agent's own.
#[must_use]
pub fn run(
    request: &ReloadRequest,
    commands: &BTreeMap<String, Vec<String>>,
    environment: &[(OsString, OsString)],
) -> ReloadOutcome {
    let now = Instant::now();
    let deadline = now.checked_add(request.timeout).unwrap_or(now);
    reload(request, commands, &mut ThisHost { deadline, timeout: request.timeout, environment })
}

/// Where commands run.
trait Host {
    /// What a command answers; an error says in one line why nothing.
    fn run(&mut self, command: &[String], keep: Keep) -> Result<Answer, String>;

    /// Waits before another try; whether there is time for one.
    fn pause(&mut self) -> bool;
}

struct ThisHost<'a> {
    deadline: Instant,
    timeout: Duration,
    environment: &'a [(OsString, OsString)],
}

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Most tries until everything shows. During another reload, the words `moh reload` do nothing and say nothing.
const TRIES: usize = 4;

impl Host for ThisHost<'_> {
    fn run(&mut self, command: &[String], keep: Keep) -> Result<Answer, String> {
        command::run(command, self.environment, keep, self.deadline).map_err(|why| {
            if Instant::now() < self.deadline {
                return why;
            }
            let timeout = humantime::format_duration(self.timeout);
            format!(
                "{why} after {timeout}; Asterisk may go on with it. A dialplan that takes longer to load needs a \
                 longer sync.reload_timeout on Main"
            )
        })
    }

    fn pause(&mut self) -> bool {
        let is_time = self.deadline.saturating_duration_since(Instant::now()) > PAUSE;
        if is_time {
            thread::sleep(PAUSE);
        }
        is_time
    }
}

/// What came of one try.
enum Tried {
    /// It is loaded; perhaps with a warning.
    Done(Option<String>),
    /// Not now: another reload is on its way.
    Later(String),
    /// It was carried out, and not everything shows.
    NotYet(String),
    Failed(String),
}

fn reload(
    request: &ReloadRequest,
    commands: &BTreeMap<String, Vec<String>>,
    host: &mut dyn Host,
) -> ReloadOutcome {
    let outcome = |state, detail| ReloadOutcome { name: request.name.clone(), state, detail };
    let Some(command) = commands.get(&request.name) else {
        let why = "this node has no command for this reload: name one under [reload] in its node.toml";
        return outcome(ReloadState::Failed, Some(why.to_owned()));
    };
    let mut tries = 1;
    loop {
        let why = match attempt(request, command, host) {
            Tried::Done(warning) => return outcome(ReloadState::Done, warning),
            Tried::Failed(why) => return outcome(ReloadState::Failed, Some(why)),
            Tried::NotYet(why) if tries == TRIES => return outcome(ReloadState::Failed, Some(why)),
            Tried::NotYet(why) => {
                tries += 1;
                why
            }
            Tried::Later(why) => {
                format!("{why}; it was waited for as long as sync.reload_timeout on Main says")
            }
        };
        if !host.pause() {
            return outcome(ReloadState::Failed, Some(why));
        }
    }
}

fn attempt(request: &ReloadRequest, command: &[String], host: &mut dyn Host) -> Tried {
    let ordered = order(command, host);
    let mut ask = |words: &str, keep: Keep| {
        let command = asking(command, words).unwrap_or_default();
        let answer = host.run(&command, keep)?;
        match verdict(&command, &answer) {
            Verdict::Done => Ok(answer),
            Verdict::Later(why)
            | Verdict::Unready(why)
            | Verdict::LoadedNothing(why)
            | Verdict::Failed(why) => Err(why),
        }
    };
    match ordered {
        Verdict::Done => {}
        Verdict::Later(why) => return Tried::Later(why),
        Verdict::LoadedNothing(why) if request.name == "dialplan" => {
            return Tried::Failed(format!("{why}; {}", dialplan::why_nothing(&request.roots, &mut ask)));
        }
        Verdict::LoadedNothing(why) => return Tried::Failed(format!("{why}; it goes on with what it had")),
        Verdict::Unready(why) | Verdict::Failed(why) => return Tried::Failed(why),
    }
    // A command of the administrator's own need not be for an Asterisk that can be asked from here.
    let is_asterisk = asking(command, "").is_some();
    let shown = match request.name.as_str() {
        "dialplan" if is_asterisk => dialplan::verify(&request.roots, &mut ask),
        "moh" if is_asterisk => music::verify(&request.roots, &mut ask),
        _ => Ok(Shown::All(None)),
    };
    match shown {
        Ok(Shown::All(warning)) => Tried::Done(warning),
        Ok(Shown::NotYet(why)) => Tried::NotYet(why),
        Ok(Shown::Missing(why)) => Tried::Failed(why),
        Err(why) => Tried::Failed(format!("reloaded, but what Asterisk has loaded cannot be seen: {why}")),
    }
}

/// Has a command carried out. One that Asterisk does not know may belong to a module that it has yet to load: then it is
/// given once more after Asterisk's start.
fn order(command: &[String], host: &mut dyn Host) -> Verdict {
    let mut give = |command: &[String]| match host.run(command, |line| line) {
        Ok(answer) => verdict(command, &answer),
        Err(why) => Verdict::Failed(why),
    };
    let first = give(command);
    let (Verdict::Unready(_), Some(wait)) = (&first, asking(command, WAIT_FOR_BOOT)) else {
        return first;
    };
    match give(&wait) {
        Verdict::Done => give(command),
        Verdict::Failed(why) => Verdict::Failed(format!("Asterisk is still booting: {why}")),
        // An Asterisk that does not know this either has fully booted.
        Verdict::Later(_) | Verdict::Unready(_) | Verdict::LoadedNothing(_) => first,
    }
}

/// Asterisk knows these words from its first moment, and answers when its start is over.
const WAIT_FOR_BOOT: &str = "core waitfullybooted";

#[cfg(test)]
mod tests;
