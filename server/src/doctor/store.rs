//! The store itself: whether it opens, and what its views say. Quick: every hash is recomputed by
//! `llm-memory journal verify`, not here.

use std::sync::Arc;

use llm_memory_disk::Disk;
use llm_memory_engine::api::ScopeStatus;
use llm_memory_engine::{Engine, EngineError};

use super::Finding;
use crate::config::Config;
use crate::serve::run_files;

const CHECK: &str = "store";

/// Opens the store without changing it, when nobody has it open.
pub(super) fn check(disk: &Arc<dyn Disk>, config: &Config) -> Vec<Finding> {
    let root = &config.data_dir;
    match disk.exists(&root.join("store.json")) {
        Ok(true) => {}
        Ok(false) => return vec![Finding::ok(CHECK, "none yet; the server creates it")],
        Err(error) => {
            let remedy = format!("let this user read {}", root.display());
            return vec![Finding::critical(CHECK, error.to_string(), remedy)];
        }
    }
    let mut options = config.engine_options();
    options.safe_mode = true;
    let engine = match Engine::open(Arc::clone(disk), root, options) {
        Ok(engine) => engine,
        Err(EngineError::Disk(error)) if error.is_locked() => return vec![in_use(&**disk, config)],
        Err(error) => {
            return vec![Finding::critical(
                CHECK,
                error.to_string(),
                "llm-memory recover --plan says what can be done",
            )];
        }
    };
    let mut findings = match engine.status() {
        Ok(scopes) => of_scopes(&scopes),
        Err(error) => vec![Finding::critical(
            CHECK,
            error.to_string(),
            "llm-memory maintenance rebuild --scope all",
        )],
    };
    findings.extend(engine.unavailable().into_iter().map(|(scope, reason)| {
        Finding::critical(
            CHECK,
            format!("the scope {scope} cannot be opened: {reason}"),
            "mend what the message names; the other scopes work",
        )
    }));
    if let Err(error) = engine.close() {
        findings.push(Finding::warning(CHECK, error.to_string(), "look at the disk"));
    }
    findings
}

fn in_use(disk: &dyn Disk, config: &Config) -> Finding {
    match run_files::read(disk, &config.data_dir) {
        Some((server, _)) => {
            let ask = server.health.map_or_else(String::new, |address| {
                format!("; http://{address}/health says how it is")
            });
            let pid = server.pid;
            Finding::ok(CHECK, format!("held by the server with process id {pid}{ask}"))
        }
        None => Finding::ok(CHECK, "held by another process"),
    }
}

fn of_scopes(scopes: &[ScopeStatus]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for scope in scopes {
        if let Some(reason) = &scope.read_only
            && !reason.contains("safe mode")
        {
            findings.push(Finding::critical(
                CHECK,
                format!("scope {} refuses writes: {reason}", scope.scope),
                format!("llm-memory journal verify --scope all, for {}", scope.scope),
            ));
        }
        for cut in &scope.recovered {
            findings.push(Finding::warning(
                CHECK,
                format!("scope {}: {cut}", scope.scope),
                "nothing acknowledged is lost; llm-memory journal verify --scope all makes sure",
            ));
        }
    }
    if findings.is_empty() {
        let items: u64 = scopes.iter().map(|scope| scope.items).sum();
        let entries: u64 = scopes.iter().map(|scope| scope.journal_entries).sum();
        findings.push(Finding::ok(
            CHECK,
            format!(
                "{} scopes, {items} items, {entries} journal records; hashes not recomputed",
                scopes.len()
            ),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::status::fixtures;

    #[test]
    fn scopes_that_refuse_writes_or_were_cut_are_named() {
        let mut scope = fixtures::busy_snapshot().scopes.remove(0);
        assert_eq!(of_scopes(std::slice::from_ref(&scope))[0].level, Level::Ok);
        scope.recovered = vec!["cut 12 bytes".to_owned()];
        scope.read_only = Some("the journal is damaged".to_owned());
        let findings = of_scopes(&[scope]);
        assert_eq!(
            findings.iter().map(|finding| finding.level).collect::<Vec<_>>(),
            [Level::Critical, Level::Warning]
        );
    }
}
