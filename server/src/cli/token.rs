//! Where the command line's bearer token comes from.

use std::path::{Path, PathBuf};

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use llm_memory_disk::{Disk, OsDisk};

use super::mcp_client::CallError;
use crate::env_vars;

/// A token, or the file that holds it. Not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// None was given.
    Absent,
    /// This one.
    Fixed(String),
    /// Whatever stands in the file when it is needed: projected tokens change under a pod.
    File(PathBuf),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Fixed(_) => f.write_str("Fixed(<hidden>)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl TokenSource {
    /// The flag, the variable, or the file that the other variable names.
    pub(crate) fn choose(flag: Option<String>) -> Self {
        let variable = |variable: env_vars::EnvVar| {
            std::env::var(variable.name).ok().filter(|text| !text.is_empty())
        };
        match flag.filter(|text| !text.is_empty()).or_else(|| variable(env_vars::TOKEN)) {
            Some(token) => Self::Fixed(token),
            None => {
                variable(env_vars::TOKEN_FILE).map_or(Self::Absent, |path| Self::File(path.into()))
            }
        }
    }

    /// A token that may be missing.
    pub(crate) fn fixed(token: Option<impl Into<String>>) -> Self {
        let token = token.map(Into::into).filter(|token| !token.is_empty());
        token.map_or(Self::Absent, Self::Fixed)
    }

    /// This one, or `other` when there is none.
    pub(crate) fn or(self, other: Option<String>) -> Self {
        if self.is_absent() { Self::fixed(other) } else { self }
    }

    /// Whether there is none.
    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    /// The header that carries it.
    pub(crate) fn header(&self) -> Result<Option<(HeaderName, HeaderValue)>, CallError> {
        let token = match self {
            Self::Absent => return Ok(None),
            Self::Fixed(token) => token.clone(),
            Self::File(path) => read(path)?,
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| CallError::TokenRefused { message: "it is not ASCII text".to_owned() })?;
        value.set_sensitive(true);
        Ok(Some((AUTHORIZATION, value)))
    }
}

fn read(path: &Path) -> Result<String, CallError> {
    let unusable = |reason: String| CallError::TokenFile { variable: FILE, reason };
    let bytes = OsDisk.read(path).map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unusable(format!("{} is not text", path.display())))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(unusable(format!("{} is empty", path.display())));
    }
    Ok(token.to_owned())
}

const FILE: &str = env_vars::TOKEN_FILE.name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File(path.clone());
        assert!(source.header().is_err(), "there is no file yet");
        for token in ["first", "second"] {
            OsDisk.durable_write(&path, format!("{token}\n").as_bytes()).unwrap();
            let (_, value) = source.header().unwrap().unwrap();
            assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
            assert!(value.is_sensitive());
        }
        OsDisk.durable_write(&path, b"\n").unwrap();
        assert!(source.header().unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn tokens_are_not_printed() {
        assert!(!format!("{:?}", TokenSource::fixed(Some("secret"))).contains("secret"));
        assert!(TokenSource::fixed(Some("")).is_absent());
    }
}
