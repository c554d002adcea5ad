//! Callers whom somebody else vouches for: the cluster for its ServiceAccounts, an OpenID Connect
//! issuer for people and programs. Both say who a caller is; the identities file says what they
//! may do.
//!
//! When things go wrong: whoever cannot be asked makes the answer "try again", never "yes" and
//! never a failed attempt. A rule that cannot be used admits nobody, and the others count; an
//! identities file that is no list leaves the rules in force.

mod bar;
mod http;
pub mod identities;
pub mod identity;
mod jwt;
pub mod kubernetes;
pub mod oidc;
pub mod reviews;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use llm_memory_disk::Disk;
use llm_memory_engine::ids::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::access::Principal;
use crate::auth::lockout::Culprit;
use crate::config::Auth;
pub use http::ClientError;
use identities::Entry;
use identity::{Refusal, Verified};
pub use jwt::Unverified;
use kubernetes::Kubernetes;
use oidc::Oidc;
use oidc::at_second;
use reviews::{OnReview, Reviews};

/// Those who are asked about callers, and the rules about whom they name.
pub struct Outside {
    kubernetes: Option<Kubernetes>,
    reviews: Reviews,
    oidc: Option<Oidc>,
    rules: ArcSwap<Rules>,
}

/// The rules, and what follows from them.
#[derive(Default)]
struct Rules {
    list: Vec<Entry>,
    /// Audiences that a token of the cluster may be for.
    audiences: Vec<String>,
}

impl Outside {
    /// Whoever `settings` name; `None` when they name nobody.
    pub fn new(
        disk: &Arc<dyn Disk>,
        settings: &Auth,
        rules: Vec<Entry>,
        on_review: OnReview,
    ) -> Result<Option<Self>, ClientError> {
        if !settings.asks_outside() {
            return Ok(None);
        }
        let outside = Self {
            kubernetes: Kubernetes::new(disk, &settings.kubernetes)?,
            reviews: Reviews::new(on_review),
            oidc: Oidc::new(disk, &settings.oidc)?,
            rules: ArcSwap::default(),
        };
        outside.replace(rules);
        Ok(Some(outside))
    }

    /// Puts other rules in force; they count from the next request on, or, for an audience that no
    /// rule named before, once what was found out about a token is a minute old.
    pub fn replace(&self, mut list: Vec<Entry>) {
        let mut audiences = Vec::new();
        if let Some(kubernetes) = &self.kubernetes {
            audiences.push(kubernetes.audience().to_owned());
            for entry in &mut list {
                let Entry::Rule(rule) = entry else { continue };
                let Some(account) = &mut rule.service_account else { continue };
                let audience = account.audience.get_or_insert_with(|| kubernetes.audience().into());
                if !audiences.contains(audience) {
                    audiences.push(audience.clone());
                }
            }
        }
        for rule in list.iter().filter_map(Entry::rule) {
            let asked = match &rule.oidc {
                Some(rule) => self.issuer().is_some_and(|issuer| issuer == rule.issuer),
                None => self.kubernetes.is_some(),
            };
            if !asked {
                tracing::warn!(
                    rule = ?rule.oidc.as_ref().map(|oidc| &oidc.issuer),
                    "the identities file has a rule for callers of whom nobody is asked: set \
                     auth.oidc.issuer to its issuer, or auth.kubernetes.audience"
                );
            }
        }
        self.rules.store(Arc::new(Rules { list, audiences }));
    }

    /// The rules in force.
    pub fn len(&self) -> usize {
        self.rules.load().list.iter().filter_map(Entry::rule).count()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The issuer whose tokens are taken.
    pub fn issuer(&self) -> Option<&str> {
        self.oidc.as_ref().map(|oidc| oidc.issuer.as_str())
    }

    /// Keeps what is known of an issuer fresh, until `cancel`.
    pub async fn keep_fresh(&self, cancel: &CancellationToken) {
        if let Some(oidc) = &self.oidc {
            oidc.keep_fresh(cancel).await;
        }
    }

    /// What `token` says of itself, if there is somebody to ask about it.
    pub(super) fn concerns(&self, token: &str) -> Option<Unverified> {
        let claims = Unverified::of(token)?;
        (self.is_of_issuer(&claims) || self.kubernetes.is_some()).then_some(claims)
    }

    fn is_of_issuer(&self, claims: &Unverified) -> bool {
        self.issuer().is_some_and(|issuer| claims.iss.as_deref() == Some(issuer))
    }

    /// Whose `token` is, which says `claims` of itself.
    pub(super) async fn identify(
        &self,
        token: &str,
        claims: &Unverified,
        locked_out: Option<&Culprit>,
        tick: Instant,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        if let Some(oidc) = self.oidc.as_ref().filter(|_| self.is_of_issuer(claims)) {
            return oidc.verify(token, tick).await;
        }
        let Some(kubernetes) = &self.kubernetes else {
            return Err(Refusal::Invalid("it is not known here".to_owned()));
        };
        // Once the API server has found the token good, what it says of itself is true.
        let expires = claims.exp.map(at_second);
        let left = expires.map(|end| {
            let millis = end.as_millis().saturating_sub(now.as_millis());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        });
        let rules = self.rules.load_full();
        let review = || kubernetes.review(token, &rules.audiences);
        let identity = self.reviews.finding(token, left, locked_out, tick, review).await?;
        Ok(Verified { identity, expires })
    }

    /// What to tell somebody whom no rule matches.
    pub(super) fn unmapped(&self, verified: &Verified) -> String {
        identities::unmapped(&self.rules.load().list, &verified.identity)
    }

    /// The caller that `verified` is here; `None` when no rule matches.
    pub(super) fn principal(&self, verified: &Verified) -> Option<Principal> {
        identities::principal(&self.rules.load().list, &verified.identity, verified.expires)
    }
}
