//! What ssh's words mean.

use super::command::Target;
use crate::node::protocol::check;
use crate::node::{NodeError, NodeErrorKind};

/// Why ssh did not get in. Its exit status is 255 for everything; only its words tell.
pub(super) fn judge(words: &str, target: &Target<'_>) -> NodeError {
    let said = last_line(words).unwrap_or_else(|| "nothing".to_owned());
    let has = |needle: &str| words.contains(needle);
    let file = target.known_hosts().display();
    let Target { address, user, alias, .. } = target;
    if has("Host key verification failed") || has("REVOKED HOST KEY") {
        let detail = if target.known {
            format!(
                "the host key of {address} has changed, it is not the one in {file}. If the node was installed anew, \
                 run `ssh-keygen -R '{alias}' -f {file}` here; if not, somebody answers in its place"
            )
        } else if target.is_strict() {
            format!(
                "the host key of {address} is not in {file}, and host_keys is \"strict\": put it there, as `{alias}`"
            )
        } else {
            format!("the host key of {address} was refused; ssh says: {said}")
        };
        return NodeError::new(NodeErrorKind::Refused, detail);
    }
    if has("Permission denied (")
        || has("Too many authentication failures")
        || has("No supported authentication")
    {
        let key = target.identity.display();
        let detail = format!(
            "{address} does not let {user} in with the key {key}; run `xds-sync join` on the node. ssh says: {said}"
        );
        return NodeError::new(NodeErrorKind::Refused, detail);
    }
    if has("Unable to negotiate") {
        return NodeError::new(NodeErrorKind::Refused, format!("{address} refused; ssh says: {said}"));
    }
    NodeError::new(NodeErrorKind::Unreachable, format!("{address} cannot be reached; ssh says: {said}"))
}

/// The last line that says something, harmless.
pub(super) fn last_line(words: &str) -> Option<String> {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("Warning: Permanently added");
    words.lines().map(str::trim).rfind(says).map(check::text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::options::tests::options;
    use super::super::{HostKeys, NodeOptions, SshOptions};
    use super::*;

    #[test]
    fn words_and_their_meaning() {
        use HostKeys::{AcceptNew, Strict};
        use NodeErrorKind::{Refused, Unreachable};
        let added = "Warning: Permanently added 'mds1' (ED25519) to the list of known hosts.\r\n";
        let denied = format!("{added}root@mds1: Permission denied (publickey).\r\n");
        for (words, known, host_keys, kind, detail) in [
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
            ("\x1b[2J\nPermission denied (x).\x1b[2J", false, AcceptNew, Refused, "(x).\\x1b[2J"),
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
        ] {
            let options = SshOptions { port: 2222, host_keys, ..options() };
            let node = NodeOptions::default();
            let mut target = Target::new(&options, "mds1", &node).unwrap();
            target.known = known;
            let error = judge(words, &target);
            assert_eq!(error.kind, kind, "{words}");
            assert!(error.detail.contains(detail), "{}", error.detail);
        }
    }
}
