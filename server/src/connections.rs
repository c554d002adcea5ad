//! Places for the connections of a listener. Whoever has not said who they are makes room for
//! newcomers when all places are taken, so that nobody keeps others out by being silent.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The connections of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Those that may be closed for a newcomer, oldest first.
    strangers: BTreeMap<u64, Stranger>,
    kept: usize,
}

#[derive(Debug)]
struct Stranger {
    network: IpAddr,
    evicted: CancellationToken,
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
    evicted: CancellationToken,
    kept: Mutex<bool>,
}

impl Connections {
    /// At most `max` of them, but at least one.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), open: Mutex::default() })
    }

    /// A place for a connection from `address`. When all are taken, that of the oldest stranger
    /// from wherever the most of them come; `None` when there is no stranger.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.open.lock();
        if open.strangers.len() + open.kept >= self.max && !open.evict() {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let evicted = CancellationToken::new();
        let stranger = Stranger { network: network(address), evicted: evicted.clone() };
        open.strangers.insert(number, stranger);
        drop(open);
        Some(Place { connections: Arc::clone(self), number, evicted, kept: Mutex::new(false) })
    }
}

impl Open {
    fn evict(&mut self) -> bool {
        let mut held: BTreeMap<IpAddr, (usize, Reverse<u64>)> = BTreeMap::new();
        for (number, stranger) in &self.strangers {
            held.entry(stranger.network).or_insert((0, Reverse(*number))).0 += 1;
        }
        let victim = held
            .into_values()
            .max()
            .and_then(|(_, Reverse(oldest))| self.strangers.remove(&oldest));
        if let Some(stranger) = &victim {
            stranger.evicted.cancel();
        }
        victim.is_some()
    }
}

impl Place {
    /// Keeps the place from now on, whoever else comes.
    pub(crate) fn keep(&self) {
        let mut kept = self.kept.lock();
        let mut open = self.connections.open.lock();
        // One that was evicted is about to be closed.
        if open.strangers.remove(&self.number).is_some() {
            open.kept += 1;
            *kept = true;
        }
    }

    /// Whether the place is kept.
    pub(crate) fn is_kept(&self) -> bool {
        *self.kept.lock()
    }

    /// Waits until somebody else has the place.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.strangers.remove(&self.number);
        open.kept -= usize::from(*self.kept.get_mut());
    }
}

/// The network that `address` is counted with: a machine has a whole /64 of IPv6 for itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_evicted(place: &Place) -> bool {
        place.evicted.is_cancelled()
    }

    #[test]
    fn the_oldest_stranger_of_whoever_has_most_makes_room() {
        let connections = Connections::new(4);
        let admit = |from| connections.admit(address(from)).unwrap();
        let (other, first, second, third) = (admit(1), admit(2), admit(2), admit(2));
        let fourth = admit(2);
        assert!(is_evicted(&first));
        assert!(![&other, &second, &third, &fourth].into_iter().any(is_evicted));
        drop(first);
        drop(third);
        let _fifth = admit(3);
        assert!(![&other, &second, &fourth].into_iter().any(is_evicted), "there was room");
        let _sixth = admit(3);
        assert!(is_evicted(&second) && !is_evicted(&other) && !is_evicted(&fourth));
    }

    #[test]
    fn whoever_is_known_keeps_the_place_until_it_is_left() {
        let connections = Connections::new(2);
        let admit = || connections.admit(address(1));
        let (first, second) = (admit().unwrap(), admit().unwrap());
        first.keep();
        let third = admit().unwrap();
        assert!(is_evicted(&second) && !is_evicted(&first));
        second.keep();
        assert!(!second.is_kept(), "it was too late");
        third.keep();
        assert!(admit().is_none());
        drop(second);
        assert!(admit().is_none());
        drop(first);
        assert!(admit().is_some());
    }
}
