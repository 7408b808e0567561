//! How many connections a client or a node may have at once, so that one cannot take the places of all others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an IPv6 address that name a network: who has one address of it has them all.
const NETWORK: u128 = !0 << 64;

/// The connections of each.
#[derive(Debug)]
pub(super) struct Places<K: Eq + Hash> {
    each: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    whose: K,
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(super) fn new(each: usize) -> Arc<Places<K>> {
        Arc::new(Places { each, taken: Mutex::default() })
    }

    /// A place for a connection; `None` when all of theirs are taken.
    pub(super) fn take(self: &Arc<Places<K>>, whose: K) -> Option<Place<K>> {
        let mut taken = self.taken();
        let count = taken.entry(whose.clone()).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), whose })
    }
}

impl<K: Eq + Hash> Places<K> {
    /// The map is whole between any two statements, so that a panic elsewhere does not matter.
    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.whose) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.whose);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 network.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
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
        let take = |address: &str| places.take(client_of(address.parse().unwrap()));
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
