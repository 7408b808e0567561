//! A program of the administrator's: `PROGRAM tell EPOCH.SEQ` on Main; `PROGRAM listen` on a node, which prints a line for each
//! publication and does not end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use super::MAX_TOLD;
use crate::store::StoreError;

pub(super) fn tell(program: &str, publication: &str) -> Result<(), StoreError> {
    let mut command = Command::new(program);
    command.args(["tell", publication]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(StoreError::Unreachable(format!("{program} tell {publication} ended with {status}")))
        }
        Err(error) => Err(StoreError::Local(format!("running {program}: {error}"))),
    }
}

pub(super) fn listen(program: &str, hint: &mut dyn FnMut() -> ControlFlow<()>) -> Result<(), StoreError> {
    let mut command = Command::new(program);
    command.arg("listen").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        command.spawn().map_err(|error| StoreError::Local(format!("running {program}: {error}")))?;
    let mut lines = child.stdout.take().map(BufReader::new);
    let mut heard = hint();
    while heard.is_continue() {
        let Some(lines) = &mut lines else { break };
        let mut line = Vec::new();
        match lines.by_ref().take(MAX_TOLD as u64).read_until(b'\n', &mut line) {
            Ok(length) if length > 0 => heard = hint(),
            _ => break,
        }
    }
    // It may be waiting for the next one.
    let _ = child.kill();
    let ended = child.wait();
    match heard {
        ControlFlow::Break(()) => Ok(()),
        ControlFlow::Continue(()) => {
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(StoreError::Unreachable(format!("{program} listen ended: {how}")))
        }
    }
}
