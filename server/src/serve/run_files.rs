//! `run/server.json` and `run/admin.token`: how the command line finds and enters the server that
//! holds the data folder. They exist from readiness to the end; after a crash they are left over
//! until the next process takes the folder, which is why readers look at the lock first.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::tls::client::Trust;

/// Folder in the data folder.
pub const FOLDER: &str = "run";
const SERVER: &str = "server.json";
/// The token that lets the folder's owner in.
pub(crate) const TOKEN: &str = "admin.token";

/// What the server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFile {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Where MCP is served, as HTTP at `/mcp` and as JSON lines.
    pub mcp: SocketAddr,
    /// SHA-256 of each certificate that MCP may be served with; none where it is served without
    /// TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Digest>,
    /// Where health is served; nowhere by a process that serves its own client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<SocketAddr>,
    /// Where metrics are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether it serves reads only.
    pub safe_mode: bool,
}

impl ServerFile {
    /// How to tell that it is this server that answers; `None` where it speaks no TLS.
    pub fn trust(&self) -> Option<Trust> {
        (!self.certificates.is_empty()).then(|| Trust::Pinned(self.certificates.clone()))
    }
}

/// The files of a running server; removed when dropped.
#[derive(Debug)]
pub struct RunFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl RunFiles {
    /// Writes both files into the data folder `root`; the token first, so that whoever sees the
    /// addresses can use them.
    pub fn write(
        disk: Arc<dyn Disk>,
        root: &Path,
        server: &ServerFile,
        token: &str,
    ) -> Result<Self, DiskError> {
        let folder = root.join(FOLDER);
        disk.create_dir_all(&folder)?;
        disk.durable_write_private(&folder.join(TOKEN), format!("{token}\n").as_bytes())?;
        describe(&*disk, root, server)?;
        Ok(Self { disk, root: root.to_path_buf() })
    }
}

/// Says, or says anew, what the server is. While it runs only.
pub(super) fn describe(disk: &dyn Disk, root: &Path, server: &ServerFile) -> Result<(), DiskError> {
    let bytes = serde_json::to_vec_pretty(server).unwrap_or_default();
    disk.durable_write(&root.join(FOLDER).join(SERVER), &bytes)
}

impl Drop for RunFiles {
    fn drop(&mut self) {
        remove(&*self.disk, &self.root);
    }
}

/// Removes both files: those of this process at its end, those that a crash left over as soon as
/// this process holds the folder.
pub(super) fn remove(disk: &dyn Disk, root: &Path) {
    let folder = root.join(FOLDER);
    for name in [SERVER, TOKEN] {
        if let Err(error) = disk.remove_file(&folder.join(name))
            && !error.is_not_found()
        {
            tracing::warn!(%error, "cannot remove a file of the running server");
        }
    }
}

/// What the server that has the data folder `root` open says about itself, and its token.
pub fn read(disk: &dyn Disk, root: &Path) -> Option<(ServerFile, Option<String>)> {
    let folder = root.join(FOLDER);
    let server = serde_json::from_slice(&disk.read(&folder.join(SERVER)).ok()?).ok()?;
    let token = disk.read(&folder.join(TOKEN)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some((server, token.map(|token| token.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn the_files_say_where_the_server_is_and_go_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 3000));
        let server = ServerFile {
            pid: 7,
            version: "1".to_owned(),
            started_at: Timestamp::from_millis(0),
            mcp: address,
            certificates: Vec::new(),
            health: Some(address),
            metrics: None,
            safe_mode: false,
        };
        let files = RunFiles::write(Arc::new(OsDisk), folder.path(), &server, "secret").unwrap();
        assert_eq!(read(&OsDisk, folder.path()), Some((server, Some("secret".to_owned()))));
        let modes: Vec<(String, u32)> = OsDisk
            .list(&folder.path().join(FOLDER))
            .unwrap()
            .into_iter()
            .map(|entry| (entry.name, entry.mode))
            .collect();
        assert_eq!(modes, [(TOKEN.to_owned(), 0o600), (SERVER.to_owned(), 0o640)]);
        drop(files);
        assert_eq!(read(&OsDisk, folder.path()), None);
    }
}
