//! The watched files that decide who comes in: tokens, identities, and the certificate with its
//! key.

use std::path::Path;
use std::sync::Arc;

use llm_memory_disk::Disk;

use super::run_files::{self, ServerFile};
use super::session::Session;
use super::watch::{Apply, InForce, WatchedFile};
use crate::auth::outside::identities::{self, IdentitiesFile};
use crate::auth::token_file;
use crate::tls::server::ServerTls;

/// The token file, in words.
pub(super) const TOKENS: &str = "tokens";
/// The identities file, in words.
pub(super) const IDENTITIES: &str = "identities";

impl Session<'_> {
    /// Each of them, with what puts it in force.
    pub(super) fn door_files(&self) -> Vec<WatchedFile> {
        let config = &self.effective.config;
        let disk = &self.instruments.disk;
        let watched = |path: &Path, what, seen, apply| {
            WatchedFile::new(Arc::clone(disk), path.to_path_buf(), what, seen, apply)
        };
        let auth = Arc::clone(&self.auth);
        let tokens: Apply = Box::new(move |bytes| {
            let file = token_file::read(bytes).map_err(|error| error.to_string())?;
            let words = format!("{} in force", file.entries.len());
            let faults = file.faults.clone();
            auth.replace(file);
            Ok(InForce { words, faults })
        });
        let mut files = vec![watched(&config.auth.tokens_file, TOKENS, self.tokens_read, tokens)];
        if self.auth.outside().is_some() {
            let auth = Arc::clone(&self.auth);
            let rules: Apply = Box::new(move |bytes| {
                let file = identities::read(bytes).map_err(|error| error.to_string())?;
                let IdentitiesFile { entries, faults } = file;
                let words = auth.outside().map_or_else(String::new, |outside| {
                    outside.replace(entries);
                    format!("{} rules in force", outside.len())
                });
                Ok(InForce { words, faults })
            });
            let path = &config.auth.identities_file;
            files.push(watched(path, IDENTITIES, self.rules_read, rules));
        }
        for (path, what, seen) in self.tls.iter().flat_map(|tls| tls.files()) {
            files.push(watched(&path, what, Some(seen), self.exchange()));
        }
        files
    }

    /// Puts the certificate and key in force that the files hold now, whichever of them changed:
    /// written one after the other, the first alone does not fit, which changes nothing.
    fn exchange(&self) -> Apply {
        let tls = self.tls.clone();
        let disk = Arc::clone(&self.instruments.disk);
        let root = self.effective.config.data_dir.clone();
        let server = self.server.clone();
        Box::new(move |_changed| {
            let Some(tls) = &tls else { return Ok("not used".to_owned().into()) };
            exchange(tls, &*disk, &root, &server).map(InForce::from)
        })
    }
}

fn exchange(
    tls: &ServerTls,
    disk: &dyn Disk,
    root: &Path,
    server: &ServerFile,
) -> Result<String, String> {
    let pair = tls.read_again(disk).map_err(|error| error.to_string())?;
    let (old, new) = (tls.fingerprint(), pair.fingerprint);
    if old == new {
        // The key may be another one still, of the same certificate's renewal.
        tls.replace(pair);
        return Ok("in force".to_owned());
    }
    // Whoever reads this before the exchange meets the old one, whoever reads it after, the new.
    let server = ServerFile { certificates: vec![new, old], ..server.clone() };
    // A disk that takes nothing must not keep an old certificate until it ends: only the command
    // line of this machine, which reads that file, is worse off.
    let described = run_files::describe(disk, root, &server);
    tls.replace(pair);
    Ok(match described {
        Ok(()) => "in force for connections from now on".to_owned(),
        Err(error) => format!(
            "in force for connections from now on; the command line here cannot know it: {error}"
        ),
    })
}
