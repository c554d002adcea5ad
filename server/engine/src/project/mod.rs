//! Which project a working directory belongs to.
//!
//! The identity of a project must be the same in every clone, worktree and checkout path, so
//! that its members share one memory: it is derived from the remote of the Git repository, and
//! from the path only where there is no remote. Git's files are read directly; no program is
//! run. Nothing here is written.

mod git;
mod remote;

use std::path::{Path, PathBuf};

use llm_memory_disk::{Disk, DiskError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use remote::{normalise_remote, without_credentials};

use crate::ids::{Digest, InvalidId, ProjectId};

/// Folder at the root of a repository in which a team's committed memory may lie.
pub const COMMITTED_FOLDER: &str = ".llm-memory";

/// Result of `project.info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectInfo {
    /// Identity of the project: 16 hexadecimal digits. Can be given as `project` to any tool.
    pub repo_id: ProjectId,
    /// Top folder of the checkout, or the working directory where there is no repository.
    pub root: String,
    /// Branch checked out; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// URL of the remote, without credentials; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Whether the project has a committed memory.
    pub has_committed_memory: bool,
}

/// A project that cannot be identified.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// One of Git's files is not what it must be.
    #[error("{}: {reason}", path.display())]
    Git {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The derived identity is not a project name; a defect.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

impl From<ProjectError> for crate::error::EngineError {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::Disk(error) => error.into(),
            ProjectError::Git { .. } => Self::invalid("workingDirectory", error.to_string()),
            ProjectError::Id(error) => error.into(),
        }
    }
}

/// Identifies the project that `working_directory` (an absolute path) lies in.
///
/// `has_committed_memory` tells of the folder [`COMMITTED_FOLDER`] in the checkout; a caller
/// that keeps committed memories elsewhere adds what it knows.
///
/// # Errors
/// The disk fails, or a file of the repository is damaged.
pub fn identify(disk: &dyn Disk, working_directory: &Path) -> Result<ProjectInfo, ProjectError> {
    let repository = git::find(disk, working_directory)?;
    let (root, identity_path, head, remote) = match repository {
        None => (working_directory.to_path_buf(), working_directory.to_path_buf(), None, None),
        Some(repository) => {
            let branch = repository.branch(disk)?;
            let remote = repository.remote(disk, branch.as_deref())?;
            (repository.root, repository.main_root, branch, remote)
        }
    };
    let has_committed_memory = disk.exists(&root.join(COMMITTED_FOLDER))?;
    Ok(ProjectInfo {
        repo_id: repo_id(remote.as_deref(), &identity_path)?,
        root: root.to_string_lossy().into_owned(),
        branch: head,
        remote: remote.as_deref().map(without_credentials),
        has_committed_memory,
    })
}

/// The identity of a project: the first 16 hexadecimal digits of the SHA-256 of its normalised
/// remote, or, without a remote, of its root path.
///
/// # Errors
/// Never in practice: 16 hexadecimal digits are a valid name.
pub fn repo_id(remote: Option<&str>, root: &Path) -> Result<ProjectId, InvalidId> {
    let digest = match remote {
        Some(remote) => Digest::of(normalise_remote(remote).as_bytes()),
        None => Digest::of(root.to_string_lossy().as_bytes()),
    };
    let mut name = digest.to_hex();
    name.truncate(16);
    ProjectId::new(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use llm_memory_disk::OsDisk;

    use super::*;

    struct Checkout {
        folder: tempfile::TempDir,
        disk: Arc<dyn Disk>,
    }

    impl Checkout {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), disk: Arc::new(OsDisk) }
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.folder.path().join(relative)
        }

        fn write(&self, relative: &str, text: &str) {
            let path = self.path(relative);
            self.disk.create_dir_all(path.parent().unwrap()).unwrap();
            self.disk.durable_write(&path, text.as_bytes()).unwrap();
        }

        fn clone_at(&self, folder: &str, remote: &str) -> ProjectInfo {
            self.write(&format!("{folder}/.git/HEAD"), "ref: refs/heads/main\n");
            self.write(
                &format!("{folder}/.git/config"),
                &format!("[core]\n\tbare = false\n[remote \"origin\"]\n\turl = {remote}\n"),
            );
            self.identify(folder)
        }

        fn identify(&self, relative: &str) -> ProjectInfo {
            identify(&*self.disk, &self.path(relative)).unwrap()
        }
    }

    #[test]
    fn clones_of_one_remote_are_one_project_wherever_they_lie() {
        let checkout = Checkout::new();
        let a = checkout.clone_at("a", "git@GitHub.com:Owner/Repo.git");
        let b = checkout.clone_at("deep/b", "https://user:t0ken@github.com/owner/repo");
        assert_eq!(a.repo_id, b.repo_id);
        assert_eq!(a.repo_id.as_str().len(), 16);
        assert_eq!(a.branch.as_deref(), Some("main"));
        assert_eq!(b.remote.as_deref(), Some("https://github.com/owner/repo"));
        assert_ne!(a.repo_id, checkout.clone_at("c", "git@github.com:owner/other").repo_id);
    }

    #[test]
    fn a_folder_inside_a_checkout_belongs_to_it() {
        let checkout = Checkout::new();
        let root = checkout.clone_at("a", "https://example.org/r");
        checkout.write("a/src/deep/file.rs", "");
        assert_eq!(checkout.identify("a/src/deep"), root);
        assert!(!root.has_committed_memory);
        checkout.write("a/.llm-memory/config.json", "{}");
        assert!(checkout.identify("a/src").has_committed_memory);
    }

    #[test]
    fn worktrees_are_the_project_of_their_repository() {
        let checkout = Checkout::new();
        for remote in ["", "[remote \"origin\"]\nurl = https://example.org/r\n"] {
            checkout.write("main/.git/HEAD", "ref: refs/heads/main\n");
            checkout.write("main/.git/config", remote);
            checkout.write("main/.git/worktrees/w/HEAD", "ref: refs/heads/topic/x\n");
            checkout.write("main/.git/worktrees/w/commondir", "../..\n");
            checkout.write("w/.git", "gitdir: ../main/.git/worktrees/w\n");
            let main = checkout.identify("main");
            let worktree = checkout.identify("w");
            assert_eq!(worktree.repo_id, main.repo_id);
            assert_eq!(worktree.branch.as_deref(), Some("topic/x"));
            assert!(worktree.root.ends_with("/w"), "{}", worktree.root);
        }
    }

    #[test]
    fn without_remote_or_repository_the_path_is_the_identity() {
        let checkout = Checkout::new();
        checkout.write("plain/file", "");
        checkout.write("other/file", "");
        let plain = checkout.identify("plain");
        assert_eq!(plain.remote, None);
        assert_eq!(plain.branch, None);
        assert_ne!(plain.repo_id, checkout.identify("other").repo_id);
        assert_eq!(plain, checkout.identify("plain"));
    }

    #[test]
    fn a_detached_head_has_no_branch() {
        let checkout = Checkout::new();
        checkout.clone_at("a", "https://example.org/r");
        checkout.write("a/.git/HEAD", "0123456789abcdef0123456789abcdef01234567\n");
        assert_eq!(checkout.identify("a").branch, None);
    }

    #[test]
    fn the_branch_s_own_remote_is_used_where_there_is_no_origin() {
        let checkout = Checkout::new();
        checkout.write("a/.git/HEAD", "ref: refs/heads/dev\n");
        checkout.write(
            "a/.git/config",
            "[remote \"backup\"]\n url = https://example.org/backup\n\
             [remote \"upstream\"]\n url = https://example.org/up\n\
             [branch \"dev\"]\n remote = upstream\n",
        );
        assert_eq!(checkout.identify("a").remote.as_deref(), Some("https://example.org/up"));
    }

    #[test]
    fn a_damaged_git_file_is_named() {
        let checkout = Checkout::new();
        checkout.write("a/.git", "nonsense");
        let error = identify(&*checkout.disk, &checkout.path("a")).unwrap_err().to_string();
        assert!(error.contains(".git") && error.contains("gitdir:"), "{error}");
    }
}
