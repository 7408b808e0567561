//! What an agent's stream has before the magic, and what it means when there is no magic.

use std::io;
use std::time::Duration;

use super::byte_stream::ByteStream;
use super::error::{NodeError, NodeErrorKind};
use super::peer::{Ended, Peer};
use super::protocol::check;
use super::protocol::handshake::{MAX_NOISE, Preamble, find_magic};

/// Reads up to and including the agent's magic.
pub(super) fn skip(stream: &mut ByteStream, peer: &mut dyn Peer, timeout: Duration) -> Result<(), NodeError> {
    let mut noise = Vec::new();
    let (kind, detail) = match find_magic(stream, &mut noise) {
        Ok(Preamble::Magic) => return Ok(()),
        Ok(Preamble::Ended) => return Err(no_agent(&noise, &peer.ended())),
        Ok(Preamble::TooLong) => (
            NodeErrorKind::Incompatible,
            format!("the node's login shell printed more than {MAX_NOISE} bytes: {}", first_line(&noise)),
        ),
        Err(error) if error.kind() == io::ErrorKind::TimedOut && noise.is_empty() => (
            NodeErrorKind::Timeout,
            format!("the node let Main in, but its xds-sync did not begin within {timeout:?}"),
        ),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => (
            NodeErrorKind::Timeout,
            format!("the node's login shell printed {} and nothing more for {timeout:?}", first_line(&noise)),
        ),
        Err(error) => (NodeErrorKind::Lost, format!("the connection ended: {error}")),
    };
    Err(NodeError::new(kind, detail))
}

/// Why a program that ended without a magic is not an agent.
fn no_agent(noise: &[u8], ended: &Ended) -> NodeError {
    let printed = String::from_utf8_lossy(noise);
    if ended.status == Some(127) || says_not_found(&ended.stderr) || says_not_found(&printed) {
        return NodeError::new(
            NodeErrorKind::AgentMissing,
            "there is no xds-sync on the node: install the package there, or run `xds-sync nodes install`",
        );
    }
    if printed.trim().is_empty() && ended.stderr.trim().is_empty() && ended.status.is_none() {
        return NodeError::new(NodeErrorKind::Lost, "the connection ended before the node's xds-sync began");
    }
    let line =
        if printed.trim().is_empty() { first_line(ended.stderr.as_bytes()) } else { first_line(noise) };
    let status = ended.status.map_or_else(String::new, |status| format!(", with exit status {status}"));
    NodeError::new(
        NodeErrorKind::Incompatible,
        format!("what answered on the node is no xds-sync agent{status}: {line}"),
    )
}

/// Whether a shell says that there is no such program, in the words of dash, bash, busybox or env(1). What a login
/// script misses is another matter.
fn says_not_found(text: &str) -> bool {
    let says = |line: &str| line.ends_with("not found") || line.ends_with("No such file or directory");
    text.lines().map(str::trim_end).any(|line| line.contains("xds-sync") && says(line))
}

/// The first line that is not blank, escaped and in quotes.
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
        for (noise, stderr, status, kind, detail) in [
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
            ("", ".profile: 3: fortune: not found\nbackup only", Some(0), Incompatible, "status 0"),
            ("", "", None, Lost, "before"),
        ] {
            let ended = Ended { status, stderr: stderr.to_owned() };
            let error = no_agent(noise.as_bytes(), &ended);
            assert_eq!(error.kind, kind, "{noise:?} {stderr:?}");
            assert!(error.detail.contains(detail), "{}", error.detail);
        }
    }
}
