//! Why ssh failed, by what it printed.

use super::command::Target;
use crate::node::protocol::check;
use crate::node::{NodeError, NodeErrorKind};

/// Why ssh did not connect. Its exit status is 255 for everything; only what it printed makes the difference.
pub(super) fn classify(printed: &str, target: &Target<'_>) -> NodeError {
    let last = last_line(printed).unwrap_or_else(|| "nothing".to_owned());
    let has = |needle: &str| printed.contains(needle);
    let file = target.known_hosts().display();
    let Target { address, user, alias, .. } = target;
    if has("Host key verification failed") || has("REVOKED HOST KEY") {
        let detail = if target.known {
            format!(
                "the host key of {address} has changed, it is not the one in {file}. If the node was installed anew, \
                 run `ssh-keygen -R '{alias}' -f {file}` here; if not, another host answers in its place"
            )
        } else if target.is_strict() {
            format!(
                "the host key of {address} is not in {file}, and host_keys is \"strict\": put it there, as `{alias}`"
            )
        } else {
            format!("the host key of {address} was refused; ssh says: {last}")
        };
        return NodeError::new(NodeErrorKind::Refused, detail);
    }
    if has("Permission denied (")
        || has("Too many authentication failures")
        || has("No supported authentication")
    {
        let key = target.identity.display();
        let detail = format!(
            "{address} does not let {user} in with the key {key}; run `xds-sync join` on the node. ssh says: {last}"
        );
        return NodeError::new(NodeErrorKind::Refused, detail);
    }
    if has("Unable to negotiate") {
        return NodeError::new(NodeErrorKind::Refused, format!("{address} refused; ssh says: {last}"));
    }
    NodeError::new(NodeErrorKind::Unreachable, format!("{address} cannot be reached; ssh says: {last}"))
}

/// The last line that is not blank and not about a new host key, made harmless.
pub(super) fn last_line(printed: &str) -> Option<String> {
    printed
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !line.starts_with("Warning: Permanently added"))
        .map(check::text)
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
            let error = classify(printed, &target);
            assert_eq!(error.kind, kind, "{printed}");
            assert!(error.detail.contains(detail), "{}", error.detail);
        }
    }
}
