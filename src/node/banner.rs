//! What comes before an agent's first word, and what it means when that word never comes.

use std::io;
use std::time::Duration;

use super::endpoint::{NodeError, NodeErrorKind};
use super::link::{Ended, Peer};
use super::protocol::check;
use super::protocol::handshake::{Found, MAX_NOISE, find_magic};
use super::wire::Wire;

/// Reads up to the agent's magic.
pub(super) fn skip(wire: &mut Wire, peer: &mut dyn Peer, timeout: Duration) -> Result<(), NodeError> {
    let mut noise = Vec::new();
    let error = |kind, detail| Err(NodeError::new(kind, detail));
    match find_magic(wire, &mut noise) {
        Ok(Found::Magic) => Ok(()),
        Ok(Found::Ended) => Err(no_agent(&noise, &peer.ended())),
        Ok(Found::TooMuch) => error(
            NodeErrorKind::Incompatible,
            format!("the node's login shell printed more than {MAX_NOISE} bytes: {}", first_line(&noise)),
        ),
        Err(failed) if failed.kind() == io::ErrorKind::TimedOut && noise.is_empty() => error(
            NodeErrorKind::Timeout,
            format!("the node let Main in, but its xds-sync did not begin within {timeout:?}"),
        ),
        Err(failed) if failed.kind() == io::ErrorKind::TimedOut => error(
            NodeErrorKind::Timeout,
            format!("the node's login shell said {} and nothing for {timeout:?}", first_line(&noise)),
        ),
        Err(failed) => error(NodeErrorKind::Lost, format!("the connection ended: {failed}")),
    }
}

/// Why a program that ended without a magic is no agent of ours.
fn no_agent(noise: &[u8], ended: &Ended) -> NodeError {
    let said = String::from_utf8_lossy(noise);
    // The words of dash, bash, busybox and env(1), wherever the shell prints them.
    let missing = |text: &str| {
        text.lines().any(|line| {
            let line = line.trim_end();
            ["not found", "No such file or directory"].iter().any(|words| line.ends_with(words))
        })
    };
    if ended.status == Some(127) || missing(&ended.words) || missing(&said) {
        return NodeError::new(
            NodeErrorKind::AgentMissing,
            "there is no xds-sync on the node: install the package there, or run `xds-sync nodes install`",
        );
    }
    if said.trim().is_empty() && ended.words.trim().is_empty() && ended.status.is_none() {
        return NodeError::new(NodeErrorKind::Lost, "the connection ended before the node's xds-sync began");
    }
    let line = if said.trim().is_empty() { first_line(ended.words.as_bytes()) } else { first_line(noise) };
    let status = ended.status.map_or_else(String::new, |status| format!(", with exit status {status}"));
    NodeError::new(
        NodeErrorKind::Incompatible,
        format!("what answered on the node is no xds-sync agent{status}: {line}"),
    )
}

/// The first line that says something, escaped and in quotes.
fn first_line(noise: &[u8]) -> String {
    let noise = String::from_utf8_lossy(noise);
    let line = noise.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    format!("\"{}\"", check::text(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_no_agent() {
        use NodeErrorKind::{AgentMissing, Incompatible, Lost};
        for (noise, words, status, kind, detail) in [
            ("", "", Some(127), AgentMissing, "install"),
            ("", "sh: 1: xds-sync: not found", Some(2), AgentMissing, "install"),
            ("bash: xds-sync: command not found\n", "", None, AgentMissing, "install"),
            ("", "env: 'xds-sync': No such file or directory", None, AgentMissing, "install"),
            ("This account is currently not available.\n", "", Some(1), Incompatible, "\"This account is"),
            ("\r\n\x1b[2Jhello\nmore\n", "", None, Incompatible, "\"\\x1b[2Jhello\""),
            (
                "",
                "error: unrecognized subcommand 'agent'\n",
                Some(2),
                Incompatible,
                "status 2: \"error: unrec",
            ),
            ("", "", Some(1), Incompatible, "exit status 1"),
            ("", "", None, Lost, "before"),
        ] {
            let ended = Ended { status, words: words.to_owned() };
            let error = no_agent(noise.as_bytes(), &ended);
            assert_eq!(error.kind, kind, "{noise:?} {words:?}");
            assert!(error.detail.contains(detail), "{}", error.detail);
        }
    }
}
