//! Verifies the tokens of an OpenID Connect issuer, with the keys that it publishes.

mod keys;

use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use llm_memory_disk::Disk;
use llm_memory_engine::ids::Timestamp;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::http::{self, ClientError};
use super::identity::{Identity, Refusal, Verified};
use super::jwt;
use crate::config;
use crate::tls::client::Trust;
use keys::Keys;

/// By how much clocks may differ, in seconds.
const LEEWAY: u64 = 60;
/// Longest subject.
const MAX_SUBJECT: usize = 256;
const EMAIL: &str = "email";

/// An issuer and what its tokens must say.
pub struct Oidc {
    pub(super) issuer: String,
    audience: String,
    subject_claim: String,
    keys: Keys,
}

impl Oidc {
    /// The issuer of `settings`; `None` when there is none.
    pub fn new(disk: &Arc<dyn Disk>, settings: &config::Oidc) -> Result<Option<Self>, ClientError> {
        let (Some(issuer), Some(audience)) = (&settings.issuer, &settings.audience) else {
            return Ok(None);
        };
        jwt::install();
        let trust = settings.ca_file.clone().map_or(Trust::System, Trust::Authorities);
        let client = http::client(&**disk, &trust, false)?;
        Ok(Some(Self {
            issuer: issuer.clone(),
            audience: audience.clone(),
            subject_claim: settings.subject_claim.clone(),
            keys: Keys::new(issuer.clone(), settings.jwks_url.clone(), client),
        }))
    }

    /// Fetches the issuer's keys now and then, until `cancel`.
    pub async fn keep_fresh(&self, cancel: &CancellationToken) {
        self.keys.keep_fresh(cancel).await;
    }

    /// Whose `token` is.
    pub(super) async fn verify(&self, token: &str, now: Instant) -> Result<Verified, Refusal> {
        let invalid = |reason: &str| Refusal::Invalid(reason.to_owned());
        // Algorithms that nobody knows, `none` among them, do not get past this.
        let header = decode_header(token)
            .map_err(|_| invalid("its header is none of a signed token that is taken here"))?;
        if header.crit.is_some() {
            return Err(invalid("its header asks for more than is understood here"));
        }
        let algorithm = header.alg;
        if !jwt::is_accepted(algorithm) {
            return Err(invalid("its algorithm is not taken here"));
        }
        let keys = self.keys.find(header.kid.as_deref(), algorithm, now).await?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut refusal = "it is signed with a key that the issuer does not name";
        for key in keys {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(data) => return self.identify(data.claims),
                Err(error) => match words(error.kind()) {
                    // Another key may have signed it.
                    None => refusal = "its signature is wrong",
                    Some(reason) => return Err(invalid(reason)),
                },
            }
        }
        Err(invalid(refusal))
    }

    fn identify(&self, claims: Map<String, Value>) -> Result<Verified, Refusal> {
        let claim = &self.subject_claim;
        let subject = claims.get(claim).and_then(Value::as_str).unwrap_or_default().to_owned();
        if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.contains(char::is_control) {
            return Err(Refusal::Invalid(format!("its claim {claim} does not name anybody")));
        }
        let mut claims = claims;
        // Whoever may write any address into their profile is not the owner of each.
        if claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true)) {
            if claim == EMAIL {
                return Err(Refusal::Invalid("its e-mail address is not verified".to_owned()));
            }
            claims.remove(EMAIL);
        }
        let expires = claims.get("exp").and_then(Value::as_f64).map(at_second);
        let identity = Identity::Oidc { issuer: self.issuer.clone(), subject, claims };
        Ok(Verified { identity, expires })
    }
}

/// A moment in seconds since 1970, as tokens have it.
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
pub(super) fn at_second(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1e3) as i64)
}

/// What is wrong with a token; `None` when another key might have signed it.
fn words(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::InvalidSignature => return None,
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::InvalidIssuer => "it is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => "it lacks one of exp, iss and aud",
        ErrorKind::InvalidAlgorithm => "its algorithm is not taken here",
        _ => "it cannot be read",
    })
}

#[cfg(test)]
mod tests;
