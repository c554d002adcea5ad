//! Files that take effect when they change: tokens and secret patterns. They are read every two
//! seconds and on SIGHUP, by content, so that the symbolic links of a mounted Secret need no
//! special care. A file that cannot be used leaves what is in force as it was, and says so once.

use std::path::PathBuf;
use std::sync::Arc;

use llm_memory_disk::Disk;
use llm_memory_engine::ids::Digest;

use crate::auth::entries::Fault;

/// Puts the content of a file in force, or says why it cannot be.
pub type Apply = Box<dyn Fn(&[u8]) -> Result<InForce, String> + Send>;

/// What is in force now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// How much, for the log.
    pub words: String,
    /// Entries of the file that do not count.
    pub faults: Vec<Fault>,
}

impl From<String> for InForce {
    fn from(words: String) -> Self {
        Self { words, faults: Vec::new() }
    }
}

/// One file.
pub struct WatchedFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    what: &'static str,
    /// Hash of the content last looked at; `None` when there was no file.
    seen: Option<Digest>,
    apply: Apply,
}

/// What a look at a file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is in force.
    Applied(InForce),
    /// It cannot be used; what was in force still is.
    Refused(String),
}

impl WatchedFile {
    /// Watches the file at `path`, of which the content with the hash `in_force` is applied
    /// already; `None` when there was no file. What has changed since then is applied with the
    /// first look, however long the start took.
    pub fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        what: &'static str,
        in_force: Option<Digest>,
        apply: Apply,
    ) -> Self {
        Self { disk, path, what, seen: in_force, apply }
    }

    /// What the file is, in words.
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// Looks at the file; `None` when it is as it was.
    pub fn look(&mut self) -> Option<Change> {
        let refused =
            |reason: String| Some(Change::Refused(format!("{}: {reason}", self.path.display())));
        let bytes = match self.disk.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                // Said once; a file that never was there is not missed.
                return self.seen.take().and_then(|_| refused("the file is gone".to_owned()));
            }
            Err(error) => {
                return self.seen.take().and_then(|_| refused(error.to_string()));
            }
        };
        let digest = Digest::of(&bytes);
        if self.seen.replace(digest) == Some(digest) {
            return None;
        }
        match (self.apply)(&bytes) {
            Ok(in_force) => Some(Change::Applied(in_force)),
            Err(reason) => refused(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llm_memory_disk::OsDisk;
    use parking_lot::Mutex;

    use super::*;

    fn watched(path: &Path, in_force: Option<&[u8]>) -> (WatchedFile, Arc<Mutex<Vec<u8>>>) {
        let seen = in_force.map(Digest::of);
        let in_force = Arc::new(Mutex::new(Vec::new()));
        let target = Arc::clone(&in_force);
        let apply = Box::new(move |bytes: &[u8]| {
            if bytes == b"bad" {
                return Err("it is bad".to_owned());
            }
            *target.lock() = bytes.to_vec();
            Ok("fine".to_owned().into())
        });
        (WatchedFile::new(Arc::new(OsDisk), path.to_path_buf(), "tokens", seen, apply), in_force)
    }

    #[test]
    fn a_changed_file_is_applied_once_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        OsDisk.durable_write(&path, b"one").unwrap();
        let (mut file, in_force) = watched(&path, Some(b"one"));
        assert_eq!(file.look(), None, "what was there at the start is in force already");
        OsDisk.durable_write(&path, b"two").unwrap();
        assert_eq!(file.look(), Some(Change::Applied("fine".to_owned().into())));
        assert_eq!(file.look(), None);
        OsDisk.durable_write(&path, b"bad").unwrap();
        assert!(matches!(file.look(), Some(Change::Refused(reason)) if reason.contains("bad")));
        assert_eq!(file.look(), None, "said once");
        assert_eq!(*in_force.lock(), b"two");
        OsDisk.remove_file(&path).unwrap();
        assert!(matches!(file.look(), Some(Change::Refused(reason)) if reason.contains("gone")));
        assert_eq!(file.look(), None);
        OsDisk.durable_write(&path, b"two").unwrap();
        assert_eq!(file.look(), Some(Change::Applied("fine".to_owned().into())));
    }

    #[test]
    fn what_changed_while_the_server_started_is_applied_with_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        OsDisk.durable_write(&path, b"two").unwrap();
        let (mut file, in_force) = watched(&path, Some(b"one"));
        assert_eq!(file.look(), Some(Change::Applied("fine".to_owned().into())));
        assert_eq!(*in_force.lock(), b"two");
    }

    #[test]
    fn a_file_that_appears_later_is_applied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let (mut file, in_force) = watched(&path, None);
        assert_eq!(file.look(), None);
        OsDisk.durable_write(&path, b"new").unwrap();
        assert!(matches!(file.look(), Some(Change::Applied(_))));
        assert_eq!(*in_force.lock(), b"new");
    }
}
