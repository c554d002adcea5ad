//! Who is let in: static bearer tokens from a file, and callers whom somebody else vouches for;
//! lockout after repeated failures, expiry.
//!
//! When things go wrong: an entry of a file that cannot be used admits nobody, and the others
//! count. A token file that is no list leaves the tokens in force as they were; a file that
//! disappears does the same. All of it is in the log and on the status page. A server that has had
//! tokens never falls back to being open while it runs, not even when the file becomes an empty
//! list.

pub mod command;
pub mod entries;
pub mod lockout;
pub mod outside;
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
use outside::identity::Refusal;
use outside::{Outside, Unverified};
use token_file::{TokenEntry, TokenFile};

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
    /// Who is asked about tokens that nobody here knows.
    outside: Option<Outside>,
    lockout: Mutex<Lockout>,
    on_lockout: OnLockout,
}

/// When to show a token again that nobody could judge.
const TRY_AGAIN: Duration = Duration::from_secs(2);

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
            outside: None,
            lockout: Mutex::new(lockout),
            on_lockout,
        }
    }

    /// Also lets callers in whom somebody else vouches for.
    #[must_use]
    pub fn with_outside(mut self, outside: Option<Outside>) -> Self {
        self.outside = outside;
        self
    }

    /// Those who vouch for callers.
    pub const fn outside(&self) -> Option<&Outside> {
        self.outside.as_ref()
    }

    /// Puts the tokens of another file in force.
    pub fn replace(&self, file: impl Into<TokenFile>) {
        let file = file.into();
        let open = self.tokens.load().open && file.is_empty();
        let entries = file.entries;
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
        let locked = self.locked(address.as_ref(), tick).max(self.locked(name.as_ref(), tick));
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
            self.failed(culprit, tick);
        }
        Err(Denied::Invalid { reason, who })
    }

    /// How long `culprit` is still locked out.
    fn locked(&self, culprit: Option<&Culprit>, tick: Instant) -> Option<Duration> {
        culprit.and_then(|culprit| self.lockout.lock().remaining(culprit, tick))
    }

    fn failed(&self, culprit: Culprit, tick: Instant) {
        let words = match &culprit {
            Culprit::Address(address) => format!("address {address}"),
            Culprit::Token(id) => format!("token {id}"),
        };
        let begins = self.lockout.lock().failed(culprit, tick);
        if begins {
            (self.on_lockout)(&words);
        }
    }

    /// Who to ask about `token`, and what it says of itself; `None` for tokens of our own.
    fn foreign(&self, token: &str) -> Option<(&Outside, Unverified)> {
        let outside = self.outside.as_ref()?;
        let claims = outside.concerns(token)?;
        let tokens = self.tokens.load();
        let ours = token_file::find(tokens.entries.iter().chain(&self.admin), token).is_some();
        (!ours).then_some((outside, claims))
    }

    /// Answers for a token that somebody else made. One that is good lets its holder in even from
    /// an address that is locked out, as a token of our own does; one that is not known yet as soon
    /// as somebody may be asked about it, which is seldom from there.
    async fn check_foreign(
        &self,
        outside: &Outside,
        claims: &Unverified,
        token: &str,
        peer: Option<SocketAddr>,
    ) -> Result<Principal, Denied> {
        let (tick, now) = (Instant::now(), Timestamp::now());
        let address = peer.map(|peer| Culprit::of_address(peer.ip()));
        let locked = self.locked(address.as_ref(), tick);
        let culprit = address.as_ref().filter(|_| locked.is_some());
        let verified = outside.identify(token, claims, culprit, tick, now).await;
        match (verified, locked) {
            (Ok(verified), _) => outside.principal(&verified).ok_or_else(|| Denied::Unmapped {
                reason: outside.unmapped(&verified),
                who: verified.identity.subject(),
            }),
            (Err(Refusal::Unavailable(reason)), _) => {
                Err(Denied::Unavailable { reason, retry_after: TRY_AGAIN })
            }
            // Nobody was asked about it; it may be good.
            (Err(Refusal::LockedOut), _) => Err(Denied::LockedOut { retry_after: TRY_AGAIN }),
            (Err(Refusal::Invalid(_)), Some(retry_after)) => Err(Denied::LockedOut { retry_after }),
            (Err(Refusal::Invalid(reason)), None) => {
                if let Some(address) = address {
                    self.failed(address, tick);
                }
                Err(Denied::Invalid { reason, who: None })
            }
        }
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
        let Credentials { token, peer, .. } = credentials;
        if let Some(token) = token
            && let Some((outside, claims)) = self.foreign(token)
        {
            return Box::pin(
                async move { self.check_foreign(outside, &claims, token, peer).await },
            );
        }
        let verdict = self.check(token, peer, Instant::now(), Timestamp::now());
        Box::pin(std::future::ready(verdict))
    }

    fn protected_resource(&self) -> ProtectedResource {
        ProtectedResource {
            authorization_servers: self
                .outside
                .as_ref()
                .and_then(Outside::issuer)
                .map(str::to_owned)
                .into_iter()
                .collect(),
            scopes: Role::ALL.iter().map(|role| role.as_str().to_owned()).collect(),
        }
    }
}

/// A fresh token for the process itself, whose holder is the owner of its data folder: the entry to
/// accept and the token.
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
        every_tenant: true,
        expires: None,
        created: Some(Timestamp::now()),
    };
    (entry, token)
}

#[cfg(test)]
mod tests;
