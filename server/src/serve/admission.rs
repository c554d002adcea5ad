//! Who may come in at all: tokens and rules at start, and the rule that only a loopback address may
//! be served without any.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llm_memory_disk::Disk;
use llm_memory_engine::ids::Digest;
use thiserror::Error;

use crate::auth::entries::{Fault, NotAList};
use crate::auth::lockout::Lockout;
use crate::auth::outside::identities::{self, Entry, IdentitiesFile};
use crate::auth::outside::reviews::OnReview;
use crate::auth::outside::{ClientError, Outside};
use crate::auth::token_file::{self, TokenEntry, TokenFile};
use crate::auth::{Authenticator, OnLockout};
use crate::config::Config;
use crate::status::Board;

/// A server that must not start.
#[derive(Debug, Error)]
pub enum AdmissionError {
    /// The token file cannot be read.
    #[error("cannot read the token file: {source}")]
    Unreadable {
        /// What the disk said.
        #[source]
        source: llm_memory_disk::DiskError,
    },
    /// The token file is no list of tokens.
    #[error("token file {path}: {source}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: NotAList,
    },
    /// The identities file is no list of rules.
    #[error("identities file {path}: {source}")]
    Identities {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: NotAList,
    },
    /// The identities file cannot be read.
    #[error("cannot read the identities file: {source}")]
    IdentitiesUnreadable {
        /// What the disk said.
        #[source]
        source: llm_memory_disk::DiskError,
    },
    /// Those who vouch for callers cannot be asked.
    #[error("cannot ask about callers ({settings}): {source}")]
    Outside {
        /// The settings that say whom to ask.
        settings: &'static str,
        /// What is wrong.
        #[source]
        source: ClientError,
    },
    /// Everybody on the network would be let in.
    #[error(
        "refusing to serve {address} without tokens, since everybody who reaches it could read \
         and change everything: create a token with `llm-memory token create NAME`, or take \
         identities (auth.kubernetes.audience, auth.oidc.issuer), or serve a loopback address \
         (--bind 127.0.0.1), or let everybody in with --allow-anonymous"
    )]
    Anonymous {
        /// The address.
        address: std::net::IpAddr,
    },
}

/// Tokens and the hash of the file they were read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokensRead {
    /// The tokens.
    pub file: TokenFile,
    /// Hash of the file; `None` when there was none.
    pub digest: Option<Digest>,
}

/// The tokens in the file at `path`; none when there is no file.
pub fn tokens(disk: &dyn Disk, path: &Path) -> Result<TokensRead, AdmissionError> {
    match disk.read(path) {
        Ok(bytes) => {
            let file = token_file::read(&bytes).map_err(|source| AdmissionError::Invalid {
                path: path.display().to_string(),
                source,
            })?;
            Ok(TokensRead { file, digest: Some(Digest::of(&bytes)) })
        }
        Err(error) if error.is_not_found() => Ok(TokensRead::default()),
        Err(source) => Err(AdmissionError::Unreadable { source }),
    }
}

/// Rules about callers of others, and the hash of the file they were read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulesRead {
    /// The rules.
    pub file: IdentitiesFile,
    /// Hash of the file; `None` when there was none.
    pub digest: Option<Digest>,
}

/// The rules in the file at `path`; none when there is no file.
pub fn rules(disk: &dyn Disk, path: &Path) -> Result<RulesRead, AdmissionError> {
    match disk.read(path) {
        Ok(bytes) => {
            let file = identities::read(&bytes).map_err(|source| AdmissionError::Identities {
                path: path.display().to_string(),
                source,
            })?;
            Ok(RulesRead { file, digest: Some(Digest::of(&bytes)) })
        }
        Err(error) if error.is_not_found() => Ok(RulesRead::default()),
        Err(source) => Err(AdmissionError::IdentitiesUnreadable { source }),
    }
}

/// Those who vouch for callers of a server with this configuration.
pub fn outside(
    disk: &Arc<dyn Disk>,
    config: &Config,
    rules: Vec<Entry>,
    on_review: OnReview,
) -> Result<Option<Outside>, AdmissionError> {
    let settings = match config.auth.oidc.issuer {
        Some(_) => "auth.kubernetes, auth.oidc",
        None => "auth.kubernetes",
    };
    Outside::new(disk, &config.auth, rules, on_review)
        .map_err(|source| AdmissionError::Outside { settings, source })
}

/// Whether callers without a token are let in, or that the server must not start.
pub fn open_to_all(config: &Config, tokens: &TokenFile) -> Result<bool, AdmissionError> {
    let address = config.listen.address;
    if !tokens.is_empty() || config.auth.asks_outside() {
        return Ok(false);
    }
    if address.is_loopback() || config.auth.allow_anonymous {
        return Ok(true);
    }
    Err(AdmissionError::Anonymous { address })
}

/// The authenticator of a server with this configuration.
pub fn authenticator(
    config: &Config,
    tokens: TokenFile,
    admin: Option<TokenEntry>,
    on_lockout: OnLockout,
) -> Result<Authenticator, AdmissionError> {
    let open = open_to_all(config, &tokens)?;
    let lockout = Lockout::new(config.auth.lockout_failures, lockout_time(config));
    Ok(Authenticator::new(tokens.entries, open, admin, lockout, on_lockout))
}

/// Says in the log and on the status page what is wrong with entries of the file `what`.
pub fn tell(board: &Board, what: &'static str, faults: &[Fault]) {
    for fault in faults {
        let problem = fault.to_string();
        match fault {
            Fault::Unusable { .. } => tracing::error!(what, problem, "an entry cannot be used"),
            Fault::Superfluous { .. } => tracing::warn!(what, problem, "an entry is not needed"),
        }
    }
    board.note_file(what, faults.iter().map(ToString::to_string).collect());
}

/// How long a lockout lasts.
pub const fn lockout_time(config: &Config) -> Duration {
    Duration::from_secs(config.auth.lockout_minutes * 60)
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;
    use crate::auth::own_admin;
    use crate::config::{Sources, load};

    fn config(environment: &[(&str, &str)]) -> Config {
        let environment =
            environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        load(&OsDisk, &Sources { environment, ..Sources::default() }).unwrap().config
    }

    #[test]
    fn tokens_that_admit_nobody_leave_a_server_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        OsDisk.durable_write(&path, br#"[{"name": "a"}]"#).unwrap();
        let read = tokens(&OsDisk, &path).unwrap();
        assert_eq!((read.file.entries.len(), read.file.faults.len()), (0, 1));
        assert!(!open_to_all(&config(&[]), &read.file).unwrap());
        assert!(!authenticator(&config(&[]), read.file, None, Box::new(|_| {})).unwrap().is_open());
    }

    #[test]
    fn only_loopback_is_open_without_tokens_unless_told_so() {
        let none = TokenFile::default();
        let anywhere = ("LLM_MEMORY_BIND_ADDRESS", "0.0.0.0");
        assert!(open_to_all(&config(&[]), &none).unwrap());
        let message = open_to_all(&config(&[anywhere]), &none).unwrap_err().to_string();
        assert!(message.contains("llm-memory token create"), "{message}");
        let told = config(&[anywhere, ("LLM_MEMORY_ALLOW_ANONYMOUS", "true")]);
        assert!(open_to_all(&told, &none).unwrap());
        let audience = ("LLM_MEMORY_KUBERNETES_AUDIENCE", "memory");
        let server = ("LLM_MEMORY_KUBERNETES_API_SERVER", "https://api");
        assert!(!open_to_all(&config(&[anywhere, audience, server]), &none).unwrap());
        assert!(!open_to_all(&config(&[audience, server]), &none).unwrap(), "nor on loopback");
        let (entry, _) = own_admin();
        assert!(!open_to_all(&config(&[anywhere]), &vec![entry].into()).unwrap());
    }

    #[test]
    fn a_broken_token_file_stops_the_start_and_a_missing_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        assert_eq!(tokens(&OsDisk, &path).unwrap(), TokensRead::default());
        OsDisk.durable_write(&path, b"[{]").unwrap();
        let message = tokens(&OsDisk, &path).unwrap_err().to_string();
        assert!(message.starts_with("token file "), "{message}");
    }
}
