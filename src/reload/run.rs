//! stub
#![allow(missing_docs)]
use super::ReloadRequest;
use crate::model::{ReloadOutcome, ReloadState};
use std::collections::BTreeMap;
pub fn run(request: &ReloadRequest, commands: &BTreeMap<String, Vec<String>>) -> ReloadOutcome {
    let state = match commands.get(&request.name).and_then(|c| c.split_first()) {
        Some((program, arguments)) => match std::process::Command::new(program).args(arguments).output() {
            Ok(out) if out.status.success() => ReloadState::Done,
            _ => ReloadState::Failed,
        },
        None => ReloadState::Failed,
    };
    ReloadOutcome { name: request.name.clone(), state, detail: None }
}
