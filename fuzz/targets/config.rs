//! The configuration of either end: mistakes are told with their place, and nothing secret is shown.

use std::fs;

use xds_sync::config::{Sources, load as load_config};
use xds_sync::node::Accept;

use super::host::scratch;

/// A byte that no configuration has parts the file, one of conf.d, and lines of the environment.
const PART: u8 = 0x1e;

/// All layers of Main's configuration.
pub(super) fn load(bytes: &[u8]) {
    let dir = scratch();
    let mut parts = bytes.split(|&byte| byte == PART);
    let file = dir.path().join("config.toml");
    let _ = fs::write(&file, parts.next().unwrap_or_default());
    if let Some(part) = parts.next() {
        let _ = fs::create_dir(dir.path().join("conf.d"));
        let _ = fs::write(dir.path().join("conf.d/nodes.toml"), part);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pair =
        |line: &[u8]| text(line).split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let env = parts.next().unwrap_or_default().split(|&byte| byte == b'\n').filter_map(pair).collect();
    let overrides = parts.next().unwrap_or_default().split(|&byte| byte == b'\n').filter_map(pair).collect();
    let sources = Sources {
        file,
        file_was_named: true,
        env,
        overrides,
        home: "/root".into(),
        host_name: "main".to_owned(),
        replaced: None,
    };
    match load_config(&sources) {
        Ok(loaded) => {
            let shown = loaded.show();
            assert!(shown.iter().all(|line| !line.contains('\n')), "a value that is no line");
            assert!(loaded.warnings.iter().all(|line| !line.contains('\x1b')), "a warning with an escape");
            for node in &loaded.config.nodes {
                assert!(!node.address.starts_with('-'), "an address that ssh takes for an option");
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.to_string().is_empty());
            assert!(!mistakes.to_string().contains('\x1b'), "a mistake with an escape");
        }
    }
}

/// A node's node.toml.
pub(super) fn accept(bytes: &[u8]) {
    let dir = scratch();
    let file = dir.path().join("node.toml");
    let _ = fs::write(&file, bytes);
    if let Ok(accept) = Accept::read(&file) {
        assert!(accept.roots.iter().all(|root| root.is_absolute()));
        for root in ["/", "/etc/../etc/shadow", "etc", "/nowhere/at/all"] {
            if accept.root(root.as_ref()).is_ok() {
                assert!(accept.roots.iter().any(|accepted| root.starts_with(&*accepted.to_string_lossy())));
            }
        }
        assert!(
            accept.reload.values().all(|command| command.first().is_some_and(|program| !program.is_empty()))
        );
    }
}
