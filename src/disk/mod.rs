//! A directory's root on this host, held open: what stages 2 and 4 share.
//!
//! Every path below a root is resolved from the held descriptor with `openat2(2)`, `RESOLVE_BENEATH`
//! and `RESOLVE_NO_SYMLINKS`: a parent that somebody swaps for a symlink in the meantime is an error,
//! never a way out.

pub mod holes;
pub mod marker;
pub mod owner;
mod resolve;
pub mod root;
mod space;
pub mod stamp;

pub use owner::Owners;
pub use resolve::resolved;
pub use root::{HeldRoot, open_beneath};
pub use space::space;
pub use stamp::Stamp;

/// Our own directory inside every root: marker, stage and trash. Never part of a tree.
pub const OWN_DIR: &str = ".xds-sync";
