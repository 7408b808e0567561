//! A directory's root on this host, held open: what stages 2 and 4 share. `root` has the one way to it.
//!
//! Every path below a root is resolved from the held descriptor with `openat2(2)`, `RESOLVE_BENEATH`
//! and `RESOLVE_NO_SYMLINKS`: a parent that somebody swaps for a symlink in the meantime is an error,
//! never a way out.

pub mod acl;
pub mod holes;
mod identity;
pub mod marker;
mod mount;
pub mod owner;
mod resolve;
pub mod root;
mod space;
pub mod stamp;
mod walk;

pub use identity::OwnIdentity;
pub use mount::mount_point;
pub use owner::Owners;
pub use resolve::resolved;
pub use root::{Found, HeldRoot, MissingRoot, open_beneath};
pub use space::space;
pub use stamp::Stamp;

pub use crate::model::reserved::OWN_DIR;
