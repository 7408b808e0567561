//! The protocol's limits. Whatever exceeds one of them ends the session.

/// Most bytes of content in one frame: enough that headers and system calls cost nothing, little enough
/// that a keep-alive never waits long behind one.
pub(crate) const MAX_DATA: usize = 256 * 1024;
/// Most bytes of a request or an answer. Lists are cut into requests of a third of this, so that their
/// answers, which may carry a reason for each item, fit as well.
pub(crate) const MAX_MESSAGE: usize = 8 * 1024 * 1024;
/// Most items of a list in one message. An item is some 250 bytes in memory and may be 4 on the wire:
/// the length of the message alone would bound too little.
pub(crate) const MAX_LIST: usize = 16 * 1024;
/// Most directories that an agent watches; sites have some ten.
pub(crate) const MAX_WATCHED: usize = 256;
/// Most bytes of a text for people; with it, the answer to [`MAX_LIST`] items fits into a message.
pub(crate) const MAX_TEXT: usize = 400;
/// Longest symlink target, user or group name, as in an encoded tree.
pub(crate) const MAX_NAME: usize = 4096;
/// Longest id of a run, marker or base; ours are ULIDs of 26 letters and digits.
pub(crate) const MAX_ID: usize = 64;
/// Longest encoding of a tree: some three million files, three times the largest site we know of. Main
/// may have to hold as many of these as it serves nodes at a time.
pub(crate) const MAX_TREE: u64 = 256 * 1024 * 1024;
