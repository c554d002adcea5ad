//! Who is let in: static bearer tokens from a file, lockout after repeated failures, expiry.
//!
//! When things go wrong: a token file that does not parse leaves the tokens in force as they were
//! and says so in the log; a file that disappears does the same. A server that has had tokens
//! never falls back to being open while it runs, not even when the file becomes an empty list.

pub mod command;
pub mod lockout;
pub mod token_file;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use llm_memory_engine::ids::{Digest, Timestamp};
use parking_lot::Mutex;

use crate::access::{Principal, Role};
use crate::mcp::auth::{Authenticate, Credentials, Denied, ProtectedResource, Verdict};
use lockout::{Culprit, Lockout};
use token_file::TokenEntry;

/// Tokens in force.
#[derive(Debug, Clone, Default)]
struct Tokens {
    entries: Vec<TokenEntry>,
    /// Whether callers without a token are let in.
    open: bool,
}

/// Called when a lockout begins, with the culprit in words.
pub type OnLockout = Box<dyn Fn(&str) + Send + Sync>;

/// Decides who a caller is.
pub struct Authenticator {
    tokens: ArcSwap<Tokens>,
    /// The token that this process handed to its own command line; not in the file.
    admin: Option<TokenEntry>,
    lockout: Mutex<Lockout>,
    on_lockout: OnLockout,
}

impl Authenticator {
    /// `open` lets callers without a token in for as long as there are no tokens.
    pub fn new(
        entries: Vec<TokenEntry>,
        open: bool,
        admin: Option<TokenEntry>,
        lockout: Lockout,
        on_lockout: OnLockout,
    ) -> Self {
        let open = open && entries.is_empty();
        Self {
            tokens: ArcSwap::from_pointee(Tokens { entries, open }),
            admin,
            lockout: Mutex::new(lockout),
            on_lockout,
        }
    }

    /// Puts other tokens in force.
    pub fn replace(&self, entries: Vec<TokenEntry>) {
        let open = self.tokens.load().open && entries.is_empty();
        self.tokens.store(Arc::new(Tokens { entries, open }));
    }

    /// Changes the limits of the lockout.
    pub fn set_lockout(&self, failures: u32, duration: Duration) {
        self.lockout.lock().set_limits(failures, duration);
    }

    /// Whether callers without a token are let in.
    pub fn is_open(&self) -> bool {
        self.tokens.load().open
    }

    /// Tokens in force, the server's own left out.
    pub fn len(&self) -> usize {
        self.tokens.load().entries.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Addresses and token names locked out now.
    pub fn locked_out(&self) -> usize {
        self.lockout.lock().locked(Instant::now())
    }

    /// Answers for one credential. The clocks are arguments so that expiry and lockout can be
    /// tested.
    pub fn check(
        &self,
        token: Option<&str>,
        peer: Option<SocketAddr>,
        tick: Instant,
        now: Timestamp,
    ) -> Result<Principal, Denied> {
        let address = peer.map(|peer| Culprit::of_address(peer.ip()));
        let tokens = self.tokens.load();
        let Some(token) = token else {
            // Clients ask without a token first, to learn what is needed: no failure.
            return if tokens.open { Ok(Principal::local_owner()) } else { Err(Denied::Missing) };
        };
        // Whoever can read this process's own token owns its data folder; strangers who fail from
        // the same address must not keep him out.
        if let Some(admin) = token_file::find(&self.admin, token) {
            return Ok(admin.principal());
        }
        let name = token_file::public_id(token).map(|id| Culprit::Token(id.to_owned()));
        let found = token_file::find(&tokens.entries, token);
        let expired = found.and_then(|entry| entry.expires).filter(|expires| *expires <= now);
        if let (Some(entry), None) = (found, expired) {
            // Nobody guesses 256 random bits: the locks are for those who try, and must not keep
            // out who shares an address, or a token's public part, with them. The failures of the
            // address stay: its other guests have not proven anything.
            if let Some(name) = &name {
                self.lockout.lock().succeeded(name);
            }
            return Ok(entry.principal());
        }
        let locked = {
            let lockout = self.lockout.lock();
            let remaining = |culprit: &Option<Culprit>| {
                culprit.as_ref().and_then(|culprit| lockout.remaining(culprit, tick))
            };
            remaining(&address).max(remaining(&name))
        };
        if let Some(retry_after) = locked {
            return Err(Denied::LockedOut { retry_after });
        }
        let who = found.map(|entry| entry.principal().subject);
        let reason = expired.map_or_else(
            || "it is not known here".to_owned(),
            |expires| format!("it expired at {expires}"),
        );
        // A public part that no token has would only fill the table.
        let known = |culprit: &Culprit| match culprit {
            Culprit::Token(id) => tokens.entries.iter().any(|entry| entry.id.as_ref() == Some(id)),
            Culprit::Address(_) => true,
        };
        for culprit in address.into_iter().chain(name).filter(known) {
            let words = match &culprit {
                Culprit::Address(address) => format!("address {address}"),
                Culprit::Token(id) => format!("token {id}"),
            };
            let begins = self.lockout.lock().failed(culprit, tick);
            if begins {
                (self.on_lockout)(&words);
            }
        }
        Err(Denied::Invalid { reason, who })
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("tokens", &self.len())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Authenticate for Authenticator {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Verdict<'a> {
        let verdict =
            self.check(credentials.token, credentials.peer, Instant::now(), Timestamp::now());
        Box::pin(std::future::ready(verdict))
    }

    fn protected_resource(&self) -> ProtectedResource {
        ProtectedResource {
            authorization_servers: Vec::new(),
            scopes: Role::ALL.iter().map(|role| role.as_str().to_owned()).collect(),
        }
    }
}

/// A fresh administrator's token for the process itself: the entry to accept and the token.
pub fn own_admin() -> (TokenEntry, String) {
    let (id, token) = token_file::generate();
    let entry = TokenEntry {
        name: "local-admin".to_owned(),
        id: Some(id),
        sha256: Digest::of(token.as_bytes()),
        subject: Some("local".to_owned()),
        roles: Role::ALL.into(),
        tenant: None,
        projects: None,
        scopes: None,
        clearance: None,
        own_only: false,
        expires: None,
        created: Some(Timestamp::now()),
    };
    (entry, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> (TokenEntry, String) {
        let (mut entry, token) = own_admin();
        entry.name = name.to_owned();
        entry.subject = None;
        (entry, token)
    }

    fn authenticator(entries: Vec<TokenEntry>, open: bool) -> Authenticator {
        let lockout = Lockout::new(5, Duration::from_secs(600));
        Authenticator::new(entries, open, None, lockout, Box::new(|_| {}))
    }

    fn peer(last: u8) -> Option<SocketAddr> {
        Some(SocketAddr::from(([10, 0, 0, last], 4000)))
    }

    #[test]
    fn a_server_without_tokens_is_open_only_when_it_was_told_so() {
        let now = Timestamp::now();
        let check = |auth: &Authenticator| auth.check(None, peer(1), Instant::now(), now);
        assert_eq!(check(&authenticator(vec![], true)).unwrap().subject, "local");
        assert_eq!(check(&authenticator(vec![], false)), Err(Denied::Missing));
        let (entry, _) = entry("a");
        assert_eq!(check(&authenticator(vec![entry], true)), Err(Denied::Missing));
    }

    #[test]
    fn a_server_that_has_had_tokens_does_not_become_open_again() {
        let auth = authenticator(vec![], true);
        assert!(auth.is_open());
        let (entry, token) = entry("a");
        auth.replace(vec![entry]);
        let now = Timestamp::now();
        assert_eq!(auth.check(Some(&token), None, Instant::now(), now).unwrap().subject, "a");
        auth.replace(vec![]);
        assert_eq!(auth.check(None, None, Instant::now(), now), Err(Denied::Missing));
        assert!(auth.check(Some(&token), None, Instant::now(), now).is_err());
    }

    #[test]
    fn five_wrong_tokens_lock_the_address_out_for_everybody_but_who_has_a_right_one() {
        let (entry, token) = entry("a");
        let auth = authenticator(vec![entry], false);
        let (start, now) = (Instant::now(), Timestamp::now());
        for _ in 0..5 {
            let denied = auth.check(Some("guess"), peer(1), start, now).unwrap_err();
            assert!(matches!(denied, Denied::Invalid { .. }));
        }
        assert_eq!(auth.check(Some(&token), peer(1), start, now).unwrap().subject, "a");
        assert!(matches!(
            auth.check(Some("guess"), peer(1), start, now),
            Err(Denied::LockedOut { retry_after }) if retry_after == Duration::from_secs(600)
        ));
        let denied = auth.check(Some("guess"), peer(2), start, now).unwrap_err();
        assert!(matches!(denied, Denied::Invalid { .. }));
        let later = start + Duration::from_secs(600);
        let denied = auth.check(Some("guess"), peer(1), later, now).unwrap_err();
        assert!(matches!(denied, Denied::Invalid { .. }));
    }

    #[test]
    fn a_right_token_does_not_make_the_guesses_from_its_address_forgotten() {
        let (entry, token) = entry("a");
        let auth = authenticator(vec![entry], false);
        let (start, now) = (Instant::now(), Timestamp::now());
        for _ in 0..5 {
            auth.check(Some("guess"), peer(1), start, now).unwrap_err();
            auth.check(Some(&token), peer(1), start, now).unwrap();
        }
        assert_eq!(auth.locked_out(), 1);
    }

    #[test]
    fn the_owner_of_the_data_folder_cannot_be_locked_out() {
        let (admin, token) = own_admin();
        let lockout = Lockout::new(1, Duration::from_secs(600));
        let auth = Authenticator::new(vec![], false, Some(admin), lockout, Box::new(|_| {}));
        let (start, now) = (Instant::now(), Timestamp::now());
        auth.check(Some("guess"), peer(1), start, now).unwrap_err();
        assert_eq!(auth.check(Some(&token), peer(1), start, now).unwrap().subject, "local");
        let denied = auth.check(Some("guess"), peer(1), start, now).unwrap_err();
        assert!(matches!(denied, Denied::LockedOut { .. }));
    }

    #[test]
    fn wrong_secrets_for_one_token_lock_its_name_out_from_everywhere_but_not_its_holder() {
        let (entry, token) = entry("a");
        let id = entry.id.clone().unwrap();
        let auth = authenticator(vec![entry], false);
        let (start, now) = (Instant::now(), Timestamp::now());
        for last in 0..5 {
            auth.check(Some(&format!("llmm_{id}_wrong")), peer(last), start, now).unwrap_err();
        }
        assert!(matches!(
            auth.check(Some(&format!("llmm_{id}_wrong")), peer(99), start, now),
            Err(Denied::LockedOut { .. })
        ));
        assert_eq!(auth.locked_out(), 1);
        assert!(auth.check(Some(&token), peer(99), start, now).is_ok());
        assert_eq!(auth.locked_out(), 0, "the holder has shown that he is there");
    }

    #[test]
    fn an_expired_token_says_when_it_ended() {
        let (mut entry, token) = entry("a");
        entry.expires = Some("2026-01-01T00:00:00Z".parse().unwrap());
        let auth = authenticator(vec![entry], false);
        let at = |text: &str| auth.check(Some(&token), None, Instant::now(), text.parse().unwrap());
        assert!(at("2025-12-31T23:59:59Z").is_ok());
        let denied = at("2026-01-01T00:00:00Z").unwrap_err();
        let text = denied.to_string();
        assert_eq!(text, "invalid token: it expired at 2026-01-01T00:00:00.000Z");
        assert!(matches!(denied, Denied::Invalid { who: Some(who), .. } if who == "a"));
    }
}
