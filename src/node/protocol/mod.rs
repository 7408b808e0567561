//! What Main and an agent say to each other, over any stream of bytes.
//!
//! The agent begins: with [`MAGIC`](handshake::MAGIC), which is found behind whatever a login shell printed,
//! and its versions. Main answers with its own versions and its identity, the agent with the version that
//! both share. From then on Main sends [requests](message::Request), and the agent answers them in order,
//! until Main closes the stream: runs, each of which begins and ends with a request of its own. Everything is
//! sent in [frames](frame).
//!
//! The two ends never wait for each other at the same time: while one of them streams blobs, the other sends
//! nothing but [`Alive`](frame::Kind::Alive), and answers at the end.
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
