//! SIGHUP and changed files: what can change while the server runs, changes; for the rest the log
//! says that a restart is needed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use llm_memory_disk::Disk;
use llm_memory_engine::Engine;
use parking_lot::Mutex;

use super::admission;
use super::watch::{Change, InForce, WatchedFile};
use crate::audit::{Audit, Entry, Kind};
use crate::auth::Authenticator;
use crate::config::{Config, Effective, Sources, load};
use crate::observer::Recorder;
use crate::status::Board;
use crate::telemetry::Telemetry;

/// Everything that can be changed.
pub struct Reloader {
    /// Reads the configuration again.
    pub disk: Arc<dyn Disk>,
    /// Flags and environment of the start; both stay as they were.
    pub sources: Sources,
    /// What is in force.
    pub effective: Mutex<Effective>,
    /// The same, for those who only read.
    pub config: Arc<ArcSwap<Config>>,
    /// Lockout limits.
    pub auth: Arc<Authenticator>,
    /// Log level.
    pub telemetry: Arc<Telemetry>,
    /// What counts as slow.
    pub recorder: Arc<Recorder>,
    /// Told about every change.
    pub audit: Audit,
    /// Shows what is wrong with a file.
    pub board: Arc<Board>,
    /// Scope configurations.
    pub engine: Arc<Engine>,
    /// Token and pattern files.
    pub files: Mutex<Vec<WatchedFile>>,
}

impl Reloader {
    /// Looks at the watched files.
    pub fn look_at_files(&self) {
        for file in self.files.lock().iter_mut() {
            let what = file.what();
            match file.look() {
                None => {}
                Some(Change::Applied(InForce { words, faults })) => {
                    tracing::info!(what, "config.reload: {what} reloaded: {words}");
                    self.record("ok", format!("{what}: {words}"));
                    admission::tell(&self.board, what, &faults);
                }
                Some(Change::Refused(reason)) => {
                    tracing::error!(what, reason, "config.reload: {what} not changed");
                    self.record("refused", format!("{what}: {reason}"));
                    self.board.note_file(what, vec![format!("not changed: {reason}")]);
                }
            }
        }
    }

    /// Reads the configuration again and applies what can be.
    pub fn reload(&self) {
        match load(&*self.disk, &self.sources) {
            Ok(new) => self.apply(new),
            Err(error) => {
                tracing::error!(%error, "config.reload: the configuration has mistakes; nothing changed");
                self.record("refused", error.to_string());
            }
        }
        match self.engine.reload_configs() {
            Ok(problems) => {
                for problem in problems {
                    tracing::error!(problem, "config.reload: a scope keeps its settings");
                    self.record("refused", problem);
                }
            }
            Err(error) => tracing::error!(%error, "config.reload: scopes not read"),
        }
        self.look_at_files();
    }

    fn apply(&self, new: Effective) {
        let mut current = self.effective.lock();
        let changed = changed_keys(&current, &new);
        let waiting: Vec<&str> =
            changed.iter().filter(|(_, live)| !live).map(|(key, _)| *key).collect();
        let applied: Vec<&str> =
            changed.iter().filter(|(_, live)| *live).map(|(key, _)| *key).collect();
        self.telemetry.set_level(&new.config.log.level);
        self.recorder.set_slow_ms(new.config.log.slow_call_ms);
        let lockout = admission::lockout_time(&new.config);
        self.auth.set_lockout(new.config.auth.lockout_failures, lockout);
        let mut running = current.config.clone();
        running.log.level.clone_from(&new.config.log.level);
        running.log.slow_call_ms = new.config.log.slow_call_ms;
        running.auth.lockout_failures = new.config.auth.lockout_failures;
        running.auth.lockout_minutes = new.config.auth.lockout_minutes;
        running.maintenance = new.config.maintenance.clone();
        self.config.store(Arc::new(running));
        tracing::info!(applied = applied.join(","), "config.reload: configuration read again");
        if !waiting.is_empty() {
            tracing::warn!(
                settings = waiting.join(","),
                "config.reload: these settings take effect at the next start"
            );
        }
        let list = |keys: &[&str]| {
            if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") }
        };
        let detail = format!("applied: {}; at next start: {}", list(&applied), list(&waiting));
        self.record("ok", detail);
        // Settings that wait stay in the comparison, so that every reload says so again.
        for (value, new) in current.values.iter_mut().zip(new.values) {
            if value.setting.reload {
                *value = new;
            }
        }
        current.config = (**self.config.load()).clone();
    }

    fn record(&self, outcome: &str, detail: String) {
        let mut entry = Entry::new(Kind::Reload, outcome);
        entry.detail = Some(detail);
        self.audit.record(&entry);
    }
}

/// Keys whose values differ, and whether the change can be applied at once.
fn changed_keys(old: &Effective, new: &Effective) -> Vec<(&'static str, bool)> {
    old.values
        .iter()
        .zip(&new.values)
        .filter(|(old, new)| old.value != new.value)
        .map(|(old, _)| (old.setting.key, old.setting.reload))
        .collect()
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn differences_are_told_apart_by_when_they_take_effect() {
        let of = |environment: &[(&str, &str)]| {
            let environment =
                environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            load(&OsDisk, &Sources { environment, ..Sources::default() }).unwrap()
        };
        let old = of(&[]);
        let new = of(&[("LLM_MEMORY_LOG_LEVEL", "debug"), ("LLM_MEMORY_MCP_PORT", "3001")]);
        assert_eq!(changed_keys(&old, &new), [("listen.mcpPort", false), ("log.level", true)]);
    }
}
