//! The program at the other end of a stream.

/// What the stream itself does not tell about the program at its other end, such as what ssh printed.
///
/// It is dropped after the stream is closed.
pub trait Peer: Send {
    /// How the program ended. Called when the stream has ended unexpectedly; may wait a moment for the answer.
    fn ended(&mut self) -> Ended;
}

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, if it had one.
    pub status: Option<i32>,
    /// The end of what it wrote to stderr.
    pub stderr: String,
}

impl Ended {
    /// The last line of its stderr that is not blank; empty when there is none.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("")
    }
}
