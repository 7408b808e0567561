//! A store behind a program of the administrator's: `exec:PROGRAM`. docs/store.md has one for git.
//!
//! It is called as `PROGRAM get|create|put|list|delete NAME`, has bytes on standard input and gives them on standard output.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::{Created, Objects};
use crate::fault;
use crate::store::StoreError;

/// What the program's exit code says.
const DONE: i32 = 0;
const MISSING: i32 = 3;
const THERE: i32 = 4;
/// Most bytes that are read of its complaints.
const MAX_COMPLAINT: u64 = 4096;
/// Most bytes of a list.
const MAX_LIST: u64 = 256 << 20;

/// The program.
pub(super) struct Exec {
    program: String,
    place: String,
}

struct Answer {
    code: Option<i32>,
    output: Vec<u8>,
    complaint: String,
}

impl Exec {
    /// Opens `exec:PROGRAM`, an absolute path.
    pub(super) fn open(url: &str) -> Result<Exec, StoreError> {
        match url.strip_prefix("exec:").filter(|program| program.starts_with('/')) {
            Some(program) => Ok(Exec { program: program.to_owned(), place: url.to_owned() }),
            None => Err(StoreError::Local(format!(
                "expected a program such as \"exec:/usr/local/bin/xds-store-git\", found '{url}'"
            ))),
        }
    }

    fn call(&self, verb: &str, name: &str, input: &[u8], most: u64) -> Result<Answer, StoreError> {
        let failed = |what: &str, error: &std::io::Error| {
            StoreError::Local(format!("{what} {}: {error}", self.program))
        };
        let mut command = Command::new(&self.program);
        command.args([verb, name]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed("running", &error))?;
        let answer = exchange(&mut child, input, most);
        if answer.is_err() {
            // It may be writing without an end.
            let _ = child.kill();
        }
        let ended = child.wait().map_err(|error| failed("waiting for", &error))?;
        let (output, complaint) = answer.map_err(|error| failed("talking to", &error))?;
        Ok(Answer { code: ended.code(), output, complaint })
    }

    fn refused(&self, verb: &str, name: &str, answer: &Answer) -> StoreError {
        let code = answer.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        StoreError::Unreachable(format!(
            "{}: {verb} {name} ended with {code}: {}",
            self.place,
            crate::model::escape::escape_for_people(answer.complaint.trim().as_bytes())
        ))
    }
}

/// Gives a program its input and takes its output, at once.
fn exchange(child: &mut Child, input: &[u8], most: u64) -> std::io::Result<(Vec<u8>, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let inits = [fault::thread_init(), fault::thread_init()];
        let [one, two] = inits;
        scope.spawn(move || {
            one();
            // Where it does not want to read it, its exit code says why.
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        let complaint = scope.spawn(move || {
            two();
            let mut text = Vec::new();
            let _ = stderr.map(|stderr| {
                let mut stderr = stderr;
                let _ = stderr.by_ref().take(MAX_COMPLAINT).read_to_end(&mut text);
                // What is left must not hold it up.
                std::io::copy(&mut stderr, &mut std::io::sink())
            });
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut output = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(most + 1).read_to_end(&mut output));
        // What is too long is not read to its end: the pipe breaks, and so does the program.
        let complaint = complaint.join().unwrap_or_default();
        read.map(|_| (output, complaint))
    })
}

impl Objects for Exec {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self.call("get", name, b"", limit)?;
        if answer.output.len() as u64 > limit {
            return Err(StoreError::Tampered(format!(
                "{}: {name} has more than the {limit} bytes that it may have",
                self.place
            )));
        }
        match answer.code {
            Some(DONE) => Ok(Some(answer.output)),
            Some(MISSING) => Ok(None),
            _ => Err(self.refused("get", name, &answer)),
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let answer = self.call("create", name, bytes, 0)?;
        match answer.code {
            Some(DONE) => Ok(Created::New),
            Some(THERE) => Ok(Created::There),
            _ => Err(self.refused("create", name, &answer)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let answer = self.call("put", name, bytes, 0)?;
        match answer.code {
            Some(DONE) => Ok(()),
            _ => Err(self.refused("put", name, &answer)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let answer = self.call("list", prefix, b"", MAX_LIST)?;
        if !matches!(answer.code, Some(DONE | MISSING)) {
            return Err(self.refused("list", prefix, &answer));
        }
        let text = String::from_utf8_lossy(&answer.output);
        let mut names: Vec<String> =
            text.lines().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let answer = self.call("delete", name, b"", 0)?;
        match answer.code {
            Some(DONE | MISSING) => Ok(()),
            _ => Err(self.refused("delete", name, &answer)),
        }
    }

    fn place(&self) -> &str {
        &self.place
    }
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(script: &str) -> (tempfile::TempDir, Exec) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let exec = Exec::open(&format!("exec:{}", path.display())).unwrap();
        (dir, exec)
    }

    #[test]
    fn what_a_program_says_is_what_became_of_it() {
        for (script, get, create) in [
            ("printf abc", Ok(Some(b"abc".to_vec())), Ok(Created::New)),
            ("exit 3", Ok(None), Err("exit code 3")),
            ("exit 4", Err("exit code 4"), Ok(Created::There)),
            ("echo no way >&2; exit 1", Err("no way"), Err("no way")),
            ("kill -9 $$", Err("a signal"), Err("a signal")),
        ] {
            let (_dir, exec) = program(script);
            match (exec.get("a", 10), get) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{script}"),
                (Err(error), Err(says)) => assert!(error.detail().contains(says), "{script}: {error}"),
                (found, _) => panic!("{script}: {found:?}"),
            }
            match (exec.create("a", &[0; 1 << 20]), create) {
                (Ok(made), Ok(expected)) => assert_eq!(made, expected, "{script}"),
                (Err(error), Err(says)) => assert!(error.detail().contains(says), "{script}: {error}"),
                (made, _) => panic!("{script}: {made:?}"),
            }
        }
    }

    #[test]
    fn a_program_that_writes_for_ever_takes_no_memory() {
        let (_dir, exec) = program("exec yes");
        assert!(matches!(exec.get("a", 1000), Err(StoreError::Tampered(_))));
    }
}
