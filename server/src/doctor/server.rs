//! What a server needs besides the machine: ports, tokens, identities, certificate, secret
//! patterns, the signing key.

use std::path::Path;

use llm_memory_disk::Disk;
use llm_memory_engine::ids::Timestamp;

use super::Finding;
use crate::auth::entries::Fault;
use crate::auth::outside::identities::Entry;
use crate::config::Config;
use crate::serve::open::{Patterns, read_patterns};
use crate::serve::{admission, listeners, run_files, signing_key, stdio};
use crate::tls::server::ServerTls;

/// Looks at everything a server reads or takes at start.
pub(super) fn check(disk: &dyn Disk, config: &Config) -> Vec<Finding> {
    let mut findings = ports(disk, config);
    findings.extend(tokens(disk, config));
    findings.extend(identities(disk, config));
    findings.extend(certificate(disk, config));
    findings.push(patterns(disk, config));
    if let Some(path) = &config.journal.signing_key_file {
        findings.push(match signing_key::read(disk, path) {
            Ok(_) => Finding::ok("signing key", format!("{} is usable", path.display())),
            Err(reason) => Finding::critical(
                "signing key",
                reason,
                "name a usable key with --signing-key-file, or none",
            ),
        });
    }
    findings
}

fn ports(disk: &dyn Disk, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "ports";
    // After a crash the file is left over, and somebody else may have the ports.
    let held = stdio::is_locked(config).unwrap_or(false);
    let running = run_files::read(disk, &config.data_dir).filter(|_| held);
    let running = running.map(|(server, _)| server);
    let mut findings = Vec::new();
    for (index, address) in listeners::addresses(config).into_iter().enumerate() {
        let Err(error) = listeners::one(address, index) else { continue };
        let ours = running.as_ref().is_some_and(|server| {
            [Some(server.mcp), server.health, server.metrics]
                .get(index)
                .is_some_and(|held| held.is_some_and(|held| held.port() == address.port()))
        });
        findings.push(match &running {
            Some(server) if ours => Finding::ok(
                CHECK,
                format!("{address} is held by the running server (process {})", server.pid),
            ),
            _ => Finding::critical(
                CHECK,
                format!("{address} cannot be had for {}: {}", error.purpose, error.source),
                format!(
                    "stop the program that has it, or choose another with --{} ({})",
                    error.flag, error.variable
                ),
            ),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "MCP, health and metrics can be had"));
    }
    findings
}

fn tokens(disk: &dyn Disk, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "tokens";
    let path = config.auth.tokens_file.display();
    let file = match admission::tokens(disk, &config.auth.tokens_file) {
        Ok(tokens) => tokens.file,
        Err(error) => {
            return vec![Finding::critical(
                CHECK,
                error.to_string(),
                "mend the file; `llm-memory token create` writes one that is right",
            )];
        }
    };
    if let Err(error) = admission::open_to_all(config, &file) {
        return vec![Finding::critical(
            CHECK,
            "there are none, and the address is not loopback",
            error.to_string(),
        )];
    }
    let mut findings = faults(CHECK, &config.auth.tokens_file, &file.faults);
    let entries = file.entries;
    let now = Timestamp::now();
    let expired: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.expires.is_some_and(|end| end <= now))
        .map(|entry| entry.name.as_str())
        .collect();
    if !expired.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            format!("expired: {}", expired.join(", ")),
            "llm-memory token revoke NAME, and create new ones where they are still needed",
        ));
    }
    if findings.is_empty() {
        findings.push(match (entries.len(), config.listen.address.is_loopback()) {
            (0, true) => Finding::ok(CHECK, "none; a loopback server lets every local user in"),
            (0, false) => Finding::warning(
                CHECK,
                "none, and everybody is let in (--allow-anonymous)",
                "create tokens with `llm-memory token create NAME`",
            ),
            (count, _) => Finding::ok(CHECK, format!("{count} in {path}")),
        });
    }
    findings
}

/// A finding for each of `faults` in the file at `path`.
fn faults(check: &'static str, path: &Path, faults: &[Fault]) -> Vec<Finding> {
    let finding = |fault: &Fault| {
        let remedy = format!("mend it in {}; a running server notices by itself", path.display());
        Finding::warning(check, fault.to_string(), remedy)
    };
    faults.iter().map(finding).collect()
}

fn identities(disk: &dyn Disk, config: &Config) -> Vec<Finding> {
    const CHECK: &str = "identities";
    let path = &config.auth.identities_file;
    let file = match admission::rules(disk, path) {
        Ok(read) => read.file,
        Err(error) => {
            return vec![Finding::critical(CHECK, error.to_string(), "mend the file")];
        }
    };
    let rules = file.entries.iter().filter_map(Entry::rule).count();
    let mut findings = faults(CHECK, path, &file.faults);
    findings.extend(match (config.auth.asks_outside(), rules) {
        (false, 0) => None,
        (true, _) if !findings.is_empty() => None,
        (false, rules) => Some(Finding::warning(
            CHECK,
            format!("{rules} rules in {}, and nobody is asked who a caller is", path.display()),
            "set auth.kubernetes.audience, or auth.oidc.issuer and auth.oidc.audience",
        )),
        (true, 0) => Some(Finding::warning(
            CHECK,
            format!("no rule in {}: whoever has an identity may do nothing", path.display()),
            "add a rule for each caller",
        )),
        (true, rules) => Some(Finding::ok(CHECK, format!("{rules} rules in {}", path.display()))),
    });
    findings
}

fn certificate(disk: &dyn Disk, config: &Config) -> Option<Finding> {
    const CHECK: &str = "certificate";
    match ServerTls::load(disk, &config.tls) {
        Ok(None) => None,
        Ok(Some(_)) => Some(Finding::ok(CHECK, "certificate and key can be used")),
        Err(error) => Some(Finding::critical(CHECK, error.to_string(), "mend the file")),
    }
}

fn patterns(disk: &dyn Disk, config: &Config) -> Finding {
    const CHECK: &str = "secret patterns";
    let Some(path) = &config.redaction.patterns_file else {
        return Finding::ok(CHECK, "the built-in ones");
    };
    match read_patterns(disk, path) {
        Ok(Patterns { file, .. }) if !file.enabled => Finding::warning(
            CHECK,
            format!("{} turns redaction off", path.display()),
            "set \"enabled\": true",
        ),
        Ok(Patterns { file, .. }) => Finding::ok(
            CHECK,
            format!(
                "{} and {} of {}",
                if file.builtin { "built-in" } else { "no built-in" },
                file.patterns.len(),
                path.display()
            ),
        ),
        Err(reason) => Finding::critical(CHECK, reason, format!("mend {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use llm_memory_disk::OsDisk;

    use super::*;
    use crate::config::{Sources, load};
    use crate::doctor::Level;

    fn config(environment: &[(&str, &str)]) -> Config {
        let environment =
            environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        load(&OsDisk, &Sources { environment, ..Sources::default() }).unwrap().config
    }

    #[test]
    fn a_port_held_by_somebody_else_is_critical() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let config = config(&[
            ("LLM_MEMORY_MCP_PORT", "0"),
            ("LLM_MEMORY_HEALTH_PORT", &port),
            ("LLM_MEMORY_METRICS_PORT", "0"),
        ]);
        let findings = ports(&OsDisk, &config);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Critical);
        assert!(findings[0].remedy.as_ref().unwrap().contains("--health-port"));
    }

    #[test]
    fn a_file_that_a_killed_server_left_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let server = run_files::ServerFile {
            certificates: Vec::new(),
            pid: 1,
            version: "1".to_owned(),
            started_at: Timestamp::from_millis(0),
            mcp: address,
            health: Some(address),
            metrics: Some(address),
            safe_mode: false,
        };
        let disk = std::sync::Arc::new(OsDisk);
        let _files = run_files::RunFiles::write(disk, folder.path(), &server, "secret").unwrap();
        let config = config(&[
            ("LLM_MEMORY_DATA_DIR", folder.path().to_str().unwrap()),
            ("LLM_MEMORY_MCP_PORT", &address.port().to_string()),
            ("LLM_MEMORY_HEALTH_PORT", "0"),
            ("LLM_MEMORY_METRICS_PORT", "0"),
        ]);
        assert_eq!(ports(&OsDisk, &config)[0].level, Level::Critical);
        let _lock = OsDisk.lock(&folder.path().join("lock")).unwrap();
        assert_eq!(ports(&OsDisk, &config)[0].level, Level::Ok);
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_named_with_its_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let hash = llm_memory_engine::ids::Digest::of(b"x");
        let token = format!(
            r#"[{{"name": "ci", "sha256": "{hash}", "roles": ["agent"], "tenant": "a b"}}]"#
        );
        OsDisk.durable_write(&path("tokens.json"), token.as_bytes()).unwrap();
        let rule = r#"[{"oidc": {"issuer": "i", "subject": "s"}, "role": ["agent"]}]"#;
        OsDisk.durable_write(&path("identities.json"), rule.as_bytes()).unwrap();
        let config = config(&[("LLM_MEMORY_DATA_DIR", folder.path().to_str().unwrap())]);
        let found = tokens(&OsDisk, &config);
        assert_eq!((found.len(), found[0].level), (1, Level::Warning));
        assert!(found[0].message.contains(r#"token "ci" (entry 1) admits nobody: tenant: "#));
        let found = identities(&OsDisk, &config);
        assert_eq!((found.len(), found[0].level), (1, Level::Warning));
        assert!(found[0].message.contains("rule 1 admits nobody: no such field role; did you"));
        assert!(found[0].remedy.as_ref().unwrap().contains("identities.json"));
    }

    #[test]
    fn an_address_for_everybody_needs_tokens_that_have_not_expired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let file = path.to_str().unwrap();
        let anywhere =
            config(&[("LLM_MEMORY_BIND_ADDRESS", "0.0.0.0"), ("LLM_MEMORY_TOKENS_FILE", file)]);
        assert_eq!(tokens(&OsDisk, &anywhere)[0].level, Level::Critical);
        let (mut entry, _) = crate::auth::own_admin();
        let write = |entry: &crate::auth::token_file::TokenEntry| {
            OsDisk.durable_write(&path, &serde_json::to_vec(&[entry]).unwrap()).unwrap();
        };
        write(&entry);
        assert_eq!(tokens(&OsDisk, &anywhere)[0].level, Level::Ok);
        entry.expires = Some(Timestamp::from_millis(0));
        write(&entry);
        assert_eq!(tokens(&OsDisk, &anywhere)[0].level, Level::Warning);
    }
}
