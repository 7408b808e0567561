//! Whether this host may act as Main at all: of a pair of XiVO servers, only the master may.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// Where XiVO's high availability says what this host is.
pub(crate) const PATH: &str = "/etc/xivo/ha.conf";

#[derive(Deserialize)]
struct Ha {
    node_type: Option<String>,
}

/// The role of this host, unless it is the master's. A slave's files are copies, hours old: pushing them would undo
/// what was done on the master since.
pub(crate) fn standby(path: &Path) -> anyhow::Result<Option<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let ha: Ha = serde_json::from_str(&text)
        .with_context(|| format!("{} does not say whether this host is the master", path.display()))?;
    // "disabled" is a server without a partner.
    Ok(ha.node_type.filter(|node_type| !matches!(node_type.as_str(), "master" | "disabled")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_not_the_master_stands_by() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ha.conf");
        assert_eq!(standby(&path).unwrap(), None);
        for (text, expected) in [
            (r#"{"node_type": "master", "remote_address": "10.0.0.2"}"#, None),
            (r#"{"node_type": "disabled", "remote_address": ""}"#, None),
            (r#"{"node_type": "slave", "remote_address": "10.0.0.1"}"#, Some("slave")),
            ("{}", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(standby(&path).unwrap().as_deref(), expected, "{text}");
        }
        std::fs::write(&path, "node_type = slave").unwrap();
        assert!(standby(&path).is_err(), "an unreadable role must not push");
    }
}
