//! Findings of a check, and the exit status that follows from them.

use std::fmt;

use serde::Serialize;

use crate::exit::Exit;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Severity {
    /// Worth knowing.
    Info,
    /// A person should look at it.
    Warning,
    /// It does not work, or data is damaged.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        })
    }
}

/// One thing a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was checked (`service`, `disk`, `errors`, ...).
    pub(crate) check: &'static str,
    /// What was found, and where it helps, what to do.
    pub(crate) message: String,
}

impl Finding {
    /// A warning.
    pub(crate) fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, check, message: message.into() }
    }

    /// A critical finding.
    pub(crate) fn critical(check: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Critical, check, message: message.into() }
    }

    /// Something worth knowing.
    pub(crate) fn info(check: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Info, check, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)
    }
}

/// The exit status of a check with these findings.
pub(crate) fn exit(findings: &[Finding]) -> Exit {
    match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Critical) => Exit::Failed,
        Some(Severity::Warning) => Exit::Finding,
        Some(Severity::Info) | None => Exit::Done,
    }
}

/// The word for it in reports.
pub(crate) fn status(findings: &[Finding]) -> &'static str {
    match exit(findings) {
        Exit::Done => "healthy",
        Exit::Finding => "warning",
        Exit::Failed | Exit::Usage => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        assert_eq!(exit(&[]), Exit::Done);
        assert_eq!(exit(&[Finding::info("a", "x")]), Exit::Done);
        let warning = Finding::warning("a", "x");
        assert_eq!(exit(std::slice::from_ref(&warning)), Exit::Finding);
        let both = [Finding::critical("b", "y"), warning];
        assert_eq!((exit(&both), status(&both)), (Exit::Failed, "critical"));
        assert_eq!(both[0].to_string(), "CRITICAL: y");
    }
}
