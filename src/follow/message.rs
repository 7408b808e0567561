//! What reaches the service.

/// A message to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// It shall end.
    End,
    /// There may be something new.
    Hint,
}
