//! The root with Asterisk 22. Asterisk 16 is the machine's own.

use std::path::{Path, PathBuf};

/// Where scripts/setup makes it.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("asterisk22");
    assert!(
        root.join(".complete").exists(),
        "this test needs {}: `scripts/setup test` makes it",
        root.display()
    );
    root
}
