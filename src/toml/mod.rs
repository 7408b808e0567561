//! TOML files that people write: every value with the line it stands on, and all mistakes at once.
//!
//! A file is read *raw*, as written; a [`Reader`] then converts the keys of one table after the other, and notes what
//! is wrong with each and which keys it does not know.

mod convert;
mod line_starts;
mod mistake;
mod raw;
mod reader;

pub(crate) use convert::{Converted, absolute, boolean, number, text};
pub(crate) use mistake::{Mistake, suggestion};
pub use mistake::{Mistakes, Origin};
pub(crate) use raw::{Fields, Raw, parse};
pub(crate) use reader::{Notes, Reader};
