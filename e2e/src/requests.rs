//! What one identity asked of the API server, counted from the audit log.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, BufReader};

/// A place in the audit log, and whose requests are counted from there.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    user: String,
    offset: u64,
}

/// Requests that have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Reads, those that begin a watch included.
    pub reads: u64,
    /// Writes of anything but Leases and Events.
    pub writes: u64,
    /// Requests for tokens, which are creations by their verb and change nothing.
    pub token_requests: u64,
    /// Writes of Leases.
    pub lease_writes: u64,
    /// Writes of Events.
    pub event_writes: u64,
    /// All of them, by verb and resource.
    pub by_kind: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<Object>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: String,
    #[serde(default)]
    subresource: Option<String>,
}

impl Audit {
    /// Begins at the end of the log that is at `path` now.
    pub async fn new(path: PathBuf, user: String) -> Result<Self> {
        let offset = tokio::fs::metadata(&path)
            .await
            .with_context(|| format!("no audit log at {}: see --audit-log", path.display()))?
            .len();
        Ok(Self { path, user, offset })
    }

    /// The requests since the last call. A log that was rotated meanwhile is read from its start.
    pub async fn since(&mut self) -> Result<Requests> {
        let mut file = File::open(&self.path).await.context("the audit log")?;
        if file.metadata().await?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset)).await?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut requests = Requests::default();
        let mut line = String::new();
        loop {
            line.clear();
            let length = reader.read_line(&mut line).await?;
            if !line.ends_with('\n') {
                // The end, or a line that is being written.
                return Ok(requests);
            }
            self.offset += length as u64;
            requests.count(&line, &self.user)?;
        }
    }
}

impl Requests {
    /// Adds what came later.
    pub fn add(&mut self, later: &Self) {
        self.reads += later.reads;
        self.writes += later.writes;
        self.token_requests += later.token_requests;
        self.lease_writes += later.lease_writes;
        self.event_writes += later.event_writes;
        for (kind, count) in &later.by_kind {
            *self.by_kind.entry(kind.clone()).or_default() += count;
        }
    }

    fn count(&mut self, line: &str, user: &str) -> Result<()> {
        if !line.contains(user) {
            return Ok(());
        }
        let line: Line = serde_json::from_str(line).context("a line of the audit log")?;
        // A watch is told twice: at its start and at its end.
        if line.user.username != user || line.stage != "ResponseComplete" {
            return Ok(());
        }
        let (resource, subresource) =
            line.object_ref.map(|object| (object.resource, object.subresource)).unwrap_or_default();
        let reads = ["get", "list", "watch"].contains(&line.verb.as_str());
        let counter = match (resource.as_str(), subresource.as_deref()) {
            _ if reads => &mut self.reads,
            ("leases", _) => &mut self.lease_writes,
            ("events", _) => &mut self.event_writes,
            ("serviceaccounts", Some("token")) => &mut self.token_requests,
            _ => &mut self.writes,
        };
        *counter += 1;
        let what = subresource.map_or_else(String::new, |name| format!("/{name}"));
        *self.by_kind.entry(format!("{} {resource}{what}", line.verb)).or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_identity_counts_and_what_is_no_object_of_a_store_counts_apart() {
        let line = |user: &str, stage: &str, verb: &str, resource: &str, sub: Option<&str>| {
            serde_json::json!({
                "stage": stage, "verb": verb, "user": {"username": user},
                "objectRef": {"resource": resource, "subresource": sub},
            })
            .to_string()
        };
        let done = "ResponseComplete";
        let mut requests = Requests::default();
        for line in [
            line("op", done, "patch", "memorystores", Some("status")),
            line("op", done, "update", "leases", None),
            line("op", done, "create", "events", None),
            line("op", done, "get", "secrets", None),
            line("op", done, "create", "serviceaccounts", Some("token")),
            line("op", "ResponseStarted", "watch", "pods", None),
            line("operator-of-others", done, "patch", "pods", None),
        ] {
            requests.count(&line, "op").unwrap();
        }
        let by_kind = &requests.by_kind;
        assert_eq!(by_kind.get("patch memorystores/status"), Some(&1), "{by_kind:?}");
        assert_eq!(by_kind.len(), 5, "{by_kind:?}");
        let Requests { reads, writes, token_requests, lease_writes, event_writes, .. } = requests;
        assert_eq!((reads, writes, token_requests, lease_writes, event_writes), (1, 1, 1, 1, 1));
    }
}
