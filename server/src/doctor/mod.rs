//! `llm-memory doctor`: looks at everything a server needs, changes nothing, and says of each
//! finding how to mend it.
//!
//! Each check is a function of its own that cannot fail: what it could not look at is a finding.

pub(crate) mod encoder_choice;
mod encoders;
mod machine;
mod permissions;
mod server;
mod store;

use std::fmt::Write as _;

use llm_memory_disk::Disk;
use serde::Serialize;
use serde_json::json;

pub use encoder_choice::EncoderChoice;

use crate::answer::Answer;
use crate::config::{ConfigError, Effective};
use crate::exit::Exit;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be, or not needed.
    Ok,
    /// Works, but a person should look.
    Warning,
    /// The server does not start, or data is in danger.
    Critical,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), remedy: None }
    }

    pub(crate) fn warning(
        check: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (message, remedy) = (message.into(), Some(remedy.into()));
        Self { check, level: Level::Warning, message, remedy }
    }

    pub(crate) fn critical(
        check: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (message, remedy) = (message.into(), Some(remedy.into()));
        Self { check, level: Level::Critical, message, remedy }
    }
}

/// Looks at everything.
pub fn examine(
    disk: &std::sync::Arc<dyn Disk>,
    loaded: Result<Effective, ConfigError>,
) -> Vec<Finding> {
    let effective = match loaded {
        Ok(effective) => effective,
        Err(error) => {
            // Without a configuration there is no telling which folder and ports are meant.
            return vec![Finding::critical(
                "configuration",
                error.to_string(),
                "mend the settings named; docs/configuration.md lists them all",
            )];
        }
    };
    let config = &effective.config;
    let file = effective.file.as_ref().map_or_else(
        || "defaults, environment and flags".to_owned(),
        |file| format!("{} is valid", file.display()),
    );
    let mut findings = vec![Finding::ok("configuration", file)];
    findings.extend(permissions::check(&**disk, config));
    findings.extend(machine::check(&**disk, config));
    findings.extend(server::check(&**disk, config));
    findings.extend(encoders::check(&**disk));
    findings.extend(store::check(disk, config));
    findings
}

/// The findings as the command's answer.
pub fn answer(findings: &[Finding]) -> Answer {
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let exit = match worst {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::Finding,
        Level::Critical => Exit::Failed,
    };
    let mut text = String::new();
    for finding in findings {
        let word = match finding.level {
            Level::Ok => "ok      ",
            Level::Warning => "warning ",
            Level::Critical => "CRITICAL",
        };
        writeln!(text, "{word}  {}: {}", finding.check, finding.message).unwrap_or_default();
        if let Some(remedy) = &finding.remedy {
            writeln!(text, "          -> {remedy}").unwrap_or_default();
        }
    }
    Answer { document: json!({ "status": worst, "findings": findings }), text, exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_status() {
        let ok = Finding::ok("a", "fine");
        let warning = Finding::warning("b", "odd", "look");
        let critical = Finding::critical("c", "broken", "mend");
        assert_eq!(answer(std::slice::from_ref(&ok)).exit, Exit::Done);
        assert_eq!(answer(&[warning.clone(), ok.clone()]).exit, Exit::Finding);
        let all = answer(&[ok, critical, warning]);
        assert_eq!(all.exit, Exit::Failed);
        insta::assert_snapshot!(all.text, @r"
        ok        a: fine
        CRITICAL  c: broken
                  -> mend
        warning   b: odd
                  -> look
        ");
    }

    #[test]
    fn a_broken_configuration_is_the_only_finding() {
        let disk: std::sync::Arc<dyn Disk> = std::sync::Arc::new(llm_memory_disk::OsDisk);
        let findings = examine(&disk, Err(ConfigError::Problems(Vec::new())));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Critical);
    }
}
