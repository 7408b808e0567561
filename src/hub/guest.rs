//! A connection as its requests see it: whose it is, and what it may use.
//!
//! Strangers get a short request each, from places that all of them share. A node that has shown its pass is no stranger:
//! its connection leaves those places, may carry any number of requests, and may be quiet while it waits or uploads.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::Place;

/// What a connection holds.
#[derive(Debug)]
pub(super) struct Guest {
    /// The places of a stranger, until it is none.
    places: Mutex<Option<(OwnedSemaphorePermit, Place)>>,
    /// Whose it is: an address, or an IPv6 network.
    client: IpAddr,
    /// Whether it comes from this host, by its loopback.
    is_local: bool,
    /// Places of nodes.
    members: Arc<Semaphore>,
    member: Mutex<Option<OwnedSemaphorePermit>>,
    /// Requests in which it need not take anything for now.
    quiet: AtomicUsize,
}

/// While it lives, the connection need not take anything.
#[derive(Debug)]
pub(super) struct Quiet(Arc<Guest>);

impl Guest {
    /// Of a connection from `address`.
    pub(super) fn new(
        address: IpAddr,
        slot: OwnedSemaphorePermit,
        place: Place,
        members: &Arc<Semaphore>,
    ) -> Arc<Guest> {
        Arc::new(Guest {
            client: place.client(),
            is_local: address.to_canonical().is_loopback(),
            places: Mutex::new(Some((slot, place))),
            members: Arc::clone(members),
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

    /// Takes the connection for that of a node. False: there are too many.
    pub(super) fn admit(&self) -> bool {
        let mut member = self.member.lock().unwrap_or_else(PoisonError::into_inner);
        if member.is_none() {
            *member = Arc::clone(&self.members).try_acquire_owned().ok();
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
