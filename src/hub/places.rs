//! How many connections a client may have at once, so that one cannot take the places of all others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an IPv6 address that name a network: who has one address of it has them all.
const NETWORK: u128 = !0 << 64;

/// The connections of each client.
#[derive(Debug)]
pub(super) struct Places {
    each: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place of a client, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    pub(super) fn new(each: usize) -> Arc<Places> {
        Arc::new(Places { each, taken: Mutex::default() })
    }

    /// A place for a connection from this address; `None` when the client has all of its places.
    pub(super) fn take(self: &Arc<Places>, address: IpAddr) -> Option<Place> {
        let client = client(address);
        let mut taken = self.taken();
        let count = taken.entry(client).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), client })
    }

    /// The map is whole between any two statements, so that a panic elsewhere does not matter.
    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 network.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_places() {
        let places = Places::new(2);
        let take = |address: &str| places.take(address.parse().unwrap());
        let held = [take("10.0.0.1"), take("::ffff:10.0.0.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(take("10.0.0.1").is_none());
        let network = [take("2001:db8::1"), take("2001:db8::2")];
        assert!(network.iter().all(Option::is_some) && take("2001:db8::ffff:3").is_none());
        assert!(take("10.0.0.2").is_some() && take("2001:db8:0:1::1").is_some());
        drop(held);
        assert!(take("10.0.0.1").is_some());
        drop(network);
        assert!(places.taken().is_empty(), "nothing is kept of those who went");
    }
}
