//! Why ssh failed, by what it logged.
//!
//! ssh writes its own words into its log, and a banner, which is the node's, elsewhere. Where the log quotes the node, what
//! follows may be anything: no decision is made by it.

use super::command::Target;
use crate::node::protocol::check;
use crate::node::{NodeError, NodeErrorKind};

/// How ssh begins what ends in the node's own words.
const QUOTES_DISCONNECT: &str = "Received disconnect from ";
const QUOTES_OFFER: &str = "Unable to negotiate with ";
/// What ssh calls a host that it reaches through a proxy command or jump host.
const BEHIND_PROXY: &str = "UNKNOWN port 65535";
/// Most lines of ssh that a message repeats: the last one often says less than the one before.
const MAX_LINES: usize = 3;

/// Why ssh did not connect. Its exit status is 255 for everything; only what it logged makes the difference.
pub(super) fn classify(log: &str, target: &Target<'_>) -> NodeError {
    let (own, quoting) = split(log);
    let Target { address, user, .. } = target;
    let says = last_lines(log).unwrap_or_else(|| "nothing".to_owned());
    let refused = |detail| NodeError::new(NodeErrorKind::Refused, detail);
    if let Some(quoting) = quoting {
        return refused(match quoting.strip_prefix(QUOTES_DISCONNECT) {
            Some(_) => format!("{address} ended the connection; ssh says: {}", check::text(quoting.trim())),
            None => format!("{address} refused; ssh says: {}", check::text(quoting.trim())),
        });
    }
    let last = own.last().copied().unwrap_or_default();
    if last == "Host key verification failed." {
        return refused(of_host_key(target, &says));
    }
    // Between the parentheses stands what the node offers.
    if last.contains(": Permission denied (") && last.ends_with(").") {
        let key = target.identity.display();
        return refused(format!(
            "{address} does not let {user} in with the key {key}; run `xds-sync join` on the node. ssh says: {says}"
        ));
    }
    NodeError::new(NodeErrorKind::Unreachable, format!("{address} cannot be reached; ssh says: {says}"))
}

/// What is wrong where ssh refuses a host key.
fn of_host_key(target: &Target<'_>, says: &str) -> String {
    let file = target.known_hosts().display();
    let Target { address, alias, .. } = target;
    if target.known {
        format!(
            "the host key of {address} has changed, it is not the one in {file}. If the node was installed anew, \
             run `ssh-keygen -R '{alias}' -f {file}` here; if not, another host answers in its place"
        )
    } else if target.is_strict() {
        format!(
            "the host key of {address} is not in {file}, and host_keys is \"strict\": put it there, as `{alias}`"
        )
    } else {
        format!("the host key of {address} was refused; ssh says: {says}")
    }
}

/// Whether a proxy command or jump host ended, so that the reason is in its words and not in ssh's log.
pub(super) fn is_of_proxy(log: &str) -> bool {
    split(log).0.iter().any(|line| line.contains(BEHIND_PROXY))
}

/// That the way to the node failed, in the words of the proxy command or of the ssh that connects to the jump host.
pub(super) fn of_proxy(words: &str, target: &Target<'_>) -> NodeError {
    let says = last_lines(words).unwrap_or_else(|| "nothing".to_owned());
    let address = target.address;
    let detail = format!(
        "{address} cannot be reached: the jump host or proxy command on the way to it failed; it says: {says}"
    );
    NodeError::new(NodeErrorKind::Unreachable, detail)
}

/// That ssh did not even begin to connect, in its words.
pub(super) fn of_options(words: &str) -> NodeError {
    let says = last_lines(words).unwrap_or_else(|| "nothing".to_owned());
    NodeError::new(
        NodeErrorKind::Unreachable,
        format!("ssh on Main does not start, see ssh.options; it says: {says}"),
    )
}

/// The lines that ssh wrote itself, and the first one that quotes the node with all that follows it.
fn split(log: &str) -> (Vec<&str>, Option<&str>) {
    let mut own = Vec::new();
    let mut rest = log;
    while !rest.is_empty() {
        if [QUOTES_DISCONNECT, QUOTES_OFFER].iter().any(|begins| rest.starts_with(begins)) {
            return (own, Some(rest));
        }
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if is_telling(line.trim()) {
            own.push(line.trim());
        }
        rest = after;
    }
    (own, None)
}

/// Whether a line is not blank, no frame, and not about a new host key.
fn is_telling(line: &str) -> bool {
    let is_frame = line.starts_with("@@@") || line.starts_with("@    ");
    !line.is_empty() && !is_frame && !line.starts_with("Warning: Permanently added")
}

/// The last lines that tell something, made harmless.
pub(super) fn last_lines(printed: &str) -> Option<String> {
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|line| is_telling(line)).collect();
    let last = lines.get(lines.len().saturating_sub(MAX_LINES)..).unwrap_or_default();
    (!last.is_empty()).then(|| check::text(&last.join("; ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::options::tests::options;
    use super::super::{HostKeys, NodeOptions, SshOptions};
    use super::*;

    #[test]
    fn what_ssh_prints_and_what_it_means() {
        use HostKeys::{AcceptNew, Strict};
        use NodeErrorKind::{Refused, Unreachable};
        let added = "Warning: Permanently added 'mds1' (ED25519) to the list of known hosts.\r\n";
        let denied = format!("{added}root@mds1: Permission denied (publickey).\r\n");
        for (printed, known, host_keys, kind, detail) in [
            (
                "ssh: Could not resolve hostname mds1: Name or service not known\r\n",
                false,
                AcceptNew,
                Unreachable,
                "Name or",
            ),
            (
                "ssh: connect to host mds1 port 22: Connection refused\r\n",
                false,
                AcceptNew,
                Unreachable,
                "Connection refused",
            ),
            (
                "ssh: connect to host mds1 port 22: No route to host\r\n",
                false,
                AcceptNew,
                Unreachable,
                "No route",
            ),
            ("Connection timed out during banner exchange\r\n", true, AcceptNew, Unreachable, "timed out"),
            ("", false, AcceptNew, Unreachable, "nothing"),
            (added, false, AcceptNew, Unreachable, "nothing"),
            (&denied, false, AcceptNew, Refused, "xds-sync join"),
            ("root@mds1: Permission denied (\x1b[2Jx).\r\n", false, AcceptNew, Refused, "(\\x1b[2Jx)."),
            (
                "Host key verification failed.\r\n",
                true,
                AcceptNew,
                Refused,
                "ssh-keygen -R '[mds1]:2222' -f /k/known_hosts",
            ),
            ("Host key verification failed.\r\n", false, Strict, Refused, "host_keys is \"strict\""),
            (
                "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found.\n",
                false,
                AcceptNew,
                Refused,
                "no matching",
            ),
            ("root@mds1: Permission denied ().\r\n", true, AcceptNew, Refused, "xds-sync join"),
            (
                "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 10.0.0.1 port 22\r\n",
                true,
                AcceptNew,
                Unreachable,
                "Connection closed by remote host; Connection closed by 10.0.0.1",
            ),
        ] {
            let options = SshOptions { port: 2222, host_keys, ..options() };
            let node = NodeOptions::default();
            let mut target = Target::new(&options, "mds1", &node).unwrap();
            target.known = known;
            let error = classify(printed, &target);
            assert_eq!(error.kind, kind, "{printed}");
            assert!(error.detail.contains(detail), "{}", error.detail);
        }
    }

    #[test]
    fn what_the_node_says_decides_nothing() {
        let options = options();
        let node = NodeOptions::default();
        let mut target = Target::new(&options, "mds1", &node).unwrap();
        target.known = true;
        let forged = "Host key verification failed.\r\nmds1: Permission denied (publickey).\r\n";
        for (log, kind) in [
            (
                format!(
                    "Received disconnect from 10.0.0.1 port 22:2: gone\n{forged}Disconnected from 10.0.0.1 port 22\r\n"
                ),
                NodeErrorKind::Refused,
            ),
            (
                format!("Unable to negotiate with 10.0.0.1 port 22: x. Their offer: y\n{forged}"),
                NodeErrorKind::Refused,
            ),
            (
                "root@mds1: Permission denied (x).\r\nHost key verification failed.).\r\n".to_owned(),
                NodeErrorKind::Unreachable,
            ),
        ] {
            let error = classify(&log, &target);
            assert_eq!(error.kind, kind, "{log}");
            assert!(
                !error.detail.contains("ssh-keygen") && !error.detail.contains("xds-sync join"),
                "{error}"
            );
        }
    }
}
