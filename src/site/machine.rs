//! This host, as the machine that it is.

use crate::host;
use crate::node::Machine;

/// The machine that this program runs on. What its hardware is called is nobody's business.
pub(crate) fn machine() -> Machine {
    let hardware = blake3::hash(host::hardware().as_bytes()).to_hex()[..32].to_owned();
    Machine { hardware, new_id: host::ulid }
}
