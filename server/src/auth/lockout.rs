//! Counts failed authentications and locks out whoever fails too often. Pure: the clock comes in
//! as an argument. The table is bounded, so that an attacker with many addresses costs a fixed
//! amount of memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::connections::network;

/// Who failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Culprit {
    /// An address; of IPv6 the first 64 bits, since one machine has all addresses below them.
    Address(IpAddr),
    /// The public part of a token whose secret part was wrong.
    Token(String),
}

impl Culprit {
    /// The culprit behind a peer address.
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    /// Time of the last failure; failures older than the lockout time are forgotten.
    last: Instant,
    locked_until: Option<Instant>,
}

/// Culprits remembered at the same time.
const CAPACITY: usize = 8192;

/// The table.
#[derive(Debug)]
pub struct Lockout {
    entries: BTreeMap<Culprit, Entry>,
    failures: u32,
    duration: Duration,
}

impl Lockout {
    /// Locks out for `duration` after `failures` failures within `duration`.
    pub const fn new(failures: u32, duration: Duration) -> Self {
        Self { entries: BTreeMap::new(), failures, duration }
    }

    /// Changes the limits; who is locked out stays so.
    pub const fn set_limits(&mut self, failures: u32, duration: Duration) {
        self.failures = failures;
        self.duration = duration;
    }

    /// How long `culprit` is still locked out; `None` when it is not.
    pub fn remaining(&self, culprit: &Culprit, now: Instant) -> Option<Duration> {
        let until = self.entries.get(culprit)?.locked_until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Counts a failure. Returns true when this one begins a lockout.
    pub fn failed(&mut self, culprit: Culprit, now: Instant) -> bool {
        self.make_room(&culprit, now);
        let fresh = Entry { failures: 0, last: now, locked_until: None };
        let duration = self.duration;
        let entry = self.entries.entry(culprit).or_insert(fresh);
        if now.saturating_duration_since(entry.last) > duration {
            *entry = fresh;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        if entry.failures < self.failures {
            return false;
        }
        entry.failures = 0;
        entry.locked_until = Some(now + duration);
        true
    }

    /// Forgets the failures of `culprit`, which has just succeeded.
    pub fn succeeded(&mut self, culprit: &Culprit) {
        self.entries.remove(culprit);
    }

    /// Culprits locked out now.
    pub fn locked(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| entry.locked_until > Some(now)).count()
    }

    /// Drops what has run out when the table is full, and the oldest failures if all is current.
    fn make_room(&mut self, newcomer: &Culprit, now: Instant) {
        if self.entries.len() < CAPACITY || self.entries.contains_key(newcomer) {
            return;
        }
        let duration = self.duration;
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.last) <= duration);
        if self.entries.len() < CAPACITY {
            return;
        }
        // Lockouts are kept over mere failures: otherwise a flood from many addresses would free
        // the one that is locked out. A share of the table goes at once, so that the flood does
        // not make every further failure look through all of it.
        let mut by_age: Vec<(bool, Instant, Culprit)> = self
            .entries
            .iter()
            .map(|(culprit, entry)| (entry.locked_until.is_some(), entry.last, culprit.clone()))
            .collect();
        by_age.sort_unstable();
        for (_, _, culprit) in by_age.into_iter().take(CAPACITY / 8) {
            self.entries.remove(&culprit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn address(last: u8) -> Culprit {
        Culprit::of_address(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn the_fifth_failure_locks_out_for_ten_minutes() {
        let mut lockout = Lockout::new(5, MINUTE * 10);
        let start = Instant::now();
        for _ in 0..4 {
            assert!(!lockout.failed(address(1), start));
        }
        assert_eq!(lockout.remaining(&address(1), start), None);
        assert!(lockout.failed(address(1), start));
        assert_eq!(lockout.remaining(&address(1), start + MINUTE), Some(MINUTE * 9));
        assert_eq!(lockout.remaining(&address(2), start), None);
        assert_eq!(lockout.remaining(&address(1), start + MINUTE * 10), None);
    }

    #[test]
    fn old_failures_and_success_are_forgiven() {
        let mut lockout = Lockout::new(2, MINUTE);
        let start = Instant::now();
        assert!(!lockout.failed(address(1), start));
        assert!(!lockout.failed(address(1), start + MINUTE * 2), "the first one is too old");
        lockout.succeeded(&address(1));
        assert!(!lockout.failed(address(1), start + MINUTE * 2));
    }

    #[test]
    fn addresses_of_one_machine_count_together() {
        let a = Culprit::of_address("2001:db8::1".parse().unwrap());
        let b = Culprit::of_address("2001:db8::ffff:2".parse().unwrap());
        assert_eq!(a, b);
        let mapped = Culprit::of_address("::ffff:10.0.0.7".parse().unwrap());
        assert_eq!(mapped, address(7));
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_frees_who_is_locked_out() {
        let mut lockout = Lockout::new(1, MINUTE);
        let start = Instant::now();
        assert!(lockout.failed(Culprit::Token("victim".to_owned()), start));
        lockout.set_limits(2, MINUTE);
        for number in 0..10_000_u32 {
            lockout.failed(Culprit::of_address(IpAddr::from(number.to_be_bytes())), start);
        }
        assert!(lockout.entries.len() <= CAPACITY);
        assert!(lockout.remaining(&Culprit::Token("victim".to_owned()), start).is_some());
        assert_eq!(lockout.locked(start), 1);
    }
}
