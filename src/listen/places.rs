//! How many connections a listener has: in all, and from one address.
//!
//! Of IPv6 the first 64 bits count: what follows, a peer chooses as it likes.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    listener: &'static str,
    all: Arc<Semaphore>,
    /// The most from one address, if that is bounded.
    most: Option<usize>,
    /// Addresses that have any; only where that is bounded.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The listener is full.
    All,
    /// The address has as many as it may.
    Address,
}

/// A connection's share of the listener's number: an extension of its requests.
/// Who takes the connection over, as a WebSocket does, keeps it to the end.
#[derive(Clone)]
pub struct Place(#[expect(dead_code, reason = "held, never read")] Arc<Held>);

struct Held {
    _permit: OwnedSemaphorePermit,
    _open: Open,
    _of: Option<OfAddress>,
}

impl Places {
    pub(super) fn new(listener: &'static str, all: usize, most: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            listener,
            all: Arc::new(Semaphore::new(all)),
            most,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from `address`; of a Unix socket there is none.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, Full> {
        let permit = Arc::clone(&self.all).try_acquire_owned();
        let permit = permit.map_err(|_| Full::All)?;
        let of = match (self.most, address) {
            (Some(most), Some(address)) => Some(self.of(network(address), most)?),
            _ => None,
        };
        Ok(Place(Arc::new(Held {
            _permit: permit,
            _open: Open::new(self.listener),
            _of: of,
        })))
    }

    fn of(self: &Arc<Self>, network: IpAddr, most: usize) -> Result<OfAddress, Full> {
        let mut taken = self.taken();
        let count = taken.entry(network).or_default();
        if *count >= most {
            return Err(Full::Address);
        }
        *count += 1;
        drop(taken);
        Ok(OfAddress {
            places: Arc::clone(self),
            network,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// One of an address's places.
struct OfAddress {
    places: Arc<Places>,
    network: IpAddr,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Open(metrics::Gauge);

impl Open {
    fn new(listener: &'static str) -> Self {
        let gauge = metrics::gauge!(telemetry::CONNECTIONS_OPEN, "listener" => listener);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>, from: &str) -> Result<Place, Full> {
        places.take(Some(from.parse().unwrap()))
    }

    #[test]
    fn an_address_has_its_share_and_others_theirs() {
        let places = Places::new("test", 4, Some(2));
        let first = take(&places, "10.0.0.1").ok().unwrap();
        // The same address as IPv6 writes it.
        let second = take(&places, "::ffff:10.0.0.1").ok().unwrap();
        assert_eq!(take(&places, "10.0.0.1").err(), Some(Full::Address));
        let _other = take(&places, "10.0.0.2").ok().unwrap();
        drop(second);
        let again = take(&places, "10.0.0.1").ok().unwrap();
        let _unix = places.take(None).ok().unwrap();
        assert_eq!(take(&places, "10.0.0.3").err(), Some(Full::All));
        drop((first, again));
        assert_eq!(places.taken().len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let places = Places::new("test", 4, Some(1));
        let _first = take(&places, "2001:db8::1").ok().unwrap();
        assert_eq!(take(&places, "2001:db8::2:1").err(), Some(Full::Address));
        assert!(take(&places, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn nothing_is_counted_without_a_bound() {
        let places = Places::new("test", 4, None);
        let _held: Vec<_> = (0..4)
            .map(|_| take(&places, "10.0.0.1").ok().unwrap())
            .collect();
        assert!(places.taken().is_empty());
    }
}
