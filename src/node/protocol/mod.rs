//! What Main and an agent say to each other, over any stream of bytes.
//!
//! The agent speaks first: [`MAGIC`](handshake::MAGIC), found behind whatever a login shell printed, and
//! its versions. Main answers with its own and who it is, the agent with the version they share. Then
//! Main asks and the agent answers, one [`Request`](message::Request) at a time, until Main closes the
//! stream. All of it travels in [frames](frame).
//!
//! Nobody waits for each other: while one end streams contents, the other says nothing but
//! [`Alive`](frame::Kind::Alive), and answers at the end.
//!
//! Both ends distrust each other: every number is checked against a limit before anything is done by it,
//! and what breaks a rule ends the session with an error that names the rule.

pub(crate) mod check;
pub(crate) mod content;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod pack;
pub(crate) mod tree;
