//! A connection as its requests see it: whose it is, and what it may use.
//!
//! Strangers get a short request each, from places that all of them share. A node that has shown its pass is no stranger:
//! its connection leaves those places, may carry any number of requests, and may be quiet while it waits or uploads.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::{Place, Places, client_of};

/// What a connection holds.
#[derive(Debug)]
pub(super) struct Guest {
    /// The places of a stranger, until it is none.
    places: Mutex<Option<(OwnedSemaphorePermit, Place<IpAddr>)>>,
    /// Whose it is: an address, or an IPv6 network.
    client: IpAddr,
    /// Whether it comes from this host, by its loopback.
    is_local: bool,
    rooms: Arc<Rooms>,
    /// The place of a node, once it has shown its pass.
    member: Mutex<Option<(OwnedSemaphorePermit, Place<String>)>>,
    /// Requests in which it need not take anything for now.
    quiet: AtomicUsize,
}

/// Places of nodes that have shown their pass.
#[derive(Debug)]
pub(super) struct Rooms {
    all: Arc<Semaphore>,
    each: Arc<Places<String>>,
}

impl Rooms {
    /// For so many connections, of which one node may have so many.
    pub(super) fn new(all: usize, each: usize) -> Arc<Rooms> {
        Arc::new(Rooms { all: Arc::new(Semaphore::new(all)), each: Places::new(each) })
    }
}

/// While it lives, the connection need not take anything.
#[derive(Debug)]
pub(super) struct Quiet(Arc<Guest>);

impl Guest {
    /// Of a connection from `address`.
    pub(super) fn new(
        address: IpAddr,
        slot: OwnedSemaphorePermit,
        place: Place<IpAddr>,
        rooms: &Arc<Rooms>,
    ) -> Arc<Guest> {
        Arc::new(Guest {
            client: client_of(address),
            is_local: address.to_canonical().is_loopback(),
            places: Mutex::new(Some((slot, place))),
            rooms: Arc::clone(rooms),
            member: Mutex::default(),
            quiet: AtomicUsize::new(0),
        })
    }

    /// Whose it is.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }

    /// Whether it comes from this host, by its loopback.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Takes the connection for that of a node. False: there are too many, of this node or of all.
    pub(super) fn admit(&self, node: &str) -> bool {
        let mut member = self.member.lock().unwrap_or_else(PoisonError::into_inner);
        if member.is_none() {
            let place = self.rooms.each.take(node.to_owned());
            *member =
                place.and_then(|place| Some((Arc::clone(&self.rooms.all).try_acquire_owned().ok()?, place)));
            if member.is_some() {
                drop(self.places.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
        member.is_some()
    }

    /// Whether it is that of a node.
    pub(super) fn is_member(&self) -> bool {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// For a request that waits, or uploads.
    pub(super) fn quiet(self: &Arc<Guest>) -> Quiet {
        self.quiet.fetch_add(1, Ordering::Relaxed);
        Quiet(Arc::clone(self))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.quiet.fetch_sub(1, Ordering::Relaxed);
    }
}
