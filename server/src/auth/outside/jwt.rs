//! JSON Web Tokens: what one says of itself before anybody has verified it, and the signatures,
//! which `ring` checks for the `jsonwebtoken` crate.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature as ring_signature;
use serde::Deserialize;

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 << 10;

/// What a token says of itself. Not to be believed: it only says whom to ask.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Unverified {
    /// Who is said to have made it.
    #[serde(default)]
    pub iss: Option<String>,
    /// When it is said to end, in seconds since 1970.
    #[serde(default)]
    pub exp: Option<f64>,
}

impl Unverified {
    /// The claims of `token`; `None` when it is no JSON Web Token.
    pub fn of(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN || token.split('.').count() != 3 {
            return None;
        }
        jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
    }
}

/// Has `jsonwebtoken` use what this file makes. Must come before anything is verified.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: no_signer,
        verifier_factory: verifier,
        // Needed to make keys, not to read them.
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    // Nobody else installs one; were it so, theirs would check the same signatures.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is the library's")]
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is the library's")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    // A secret is no public key, whatever a header says.
    if accepted(*algorithm).is_none() || key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() }))
}

enum Check {
    Rsa(&'static ring_signature::RsaParameters),
    Other(&'static dyn ring_signature::VerificationAlgorithm),
}

/// Whether tokens signed with `algorithm` are taken.
pub(super) fn is_accepted(algorithm: Algorithm) -> bool {
    accepted(algorithm).is_some()
}

/// How signatures of an algorithm are checked; `None` for those that are not taken.
fn accepted(algorithm: Algorithm) -> Option<Check> {
    Some(match algorithm {
        Algorithm::RS256 => Check::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Check::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Check::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Check::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Check::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Check::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Check::Other(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Check::Other(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Check::Other(&ring_signature::ED25519),
        // HMAC: secrets shared with the issuer, so that whoever verifies could also sign.
        _ => return None,
    })
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let checked = match (accepted(self.algorithm), self.key.kind()) {
            (Some(Check::Rsa(parameters)), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                ring_signature::RsaPublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
            }
            (Some(Check::Other(algorithm)), DecodingKeyKind::SecretOrDer(key)) => {
                ring_signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        checked.map_err(|_unspecified| signature::Error::new())
    }
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
