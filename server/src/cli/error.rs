//! How a command fails, in words for the person who typed it.

use std::io;
use std::path::PathBuf;

use llm_memory_disk::DiskError;
use llm_memory_engine::EngineError;
use thiserror::Error;

use super::arguments::BadFlag;
use super::mcp_client::CallError;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::jobs::JobError;
use crate::serve::open::OpenError;
use crate::tools::ToolError;

/// A command that could not do its work.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// The command line makes no sense.
    #[error("{message}")]
    Usage {
        /// What is wrong and what would be right.
        message: String,
    },
    /// A flag's value cannot be used.
    #[error(transparent)]
    Flag(#[from] BadFlag),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to read.
    #[error(
        "there is no store in {}: write something first, or name another folder with --data-dir",
        root.display()
    )]
    NoStore {
        /// The folder.
        root: PathBuf,
    },
    /// Another process holds the directory and cannot be asked.
    #[error(
        "{} is in use by a process that serves no requests: stop it, or name a running server \
         with --server",
        root.display()
    )]
    Locked {
        /// The folder.
        root: PathBuf,
    },
    /// A command that only works on a directory nobody else has open.
    #[error("{what} needs {} for itself: stop the server that has it open", root.display())]
    NotAlone {
        /// The command.
        what: &'static str,
        /// The folder.
        root: PathBuf,
    },
    /// A job that was waited for and did not end in time.
    #[error("{message}")]
    Unfinished {
        /// What is known of it, and how to go on.
        message: String,
    },
    /// A running server failed or refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The result could not be printed.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
    /// A document that a report is made from has not the form it must have.
    #[error("{what}: {reason}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Setting(message) => Self::Usage { message },
            OpenError::Engine(error) => Self::Engine(error),
        }
    }
}

impl CliError {
    /// The exit status that goes with it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. }
            | Self::Flag(_)
            | Self::Config(_)
            | Self::Engine(EngineError::Invalid { .. })
            | Self::Tool(
                ToolError::Arguments { .. }
                | ToolError::Engine(EngineError::Invalid { .. })
                | ToolError::Job(JobError::Invalid { .. }),
            ) => Exit::Usage,
            // The same answer whether a server was asked or the folder was opened.
            Self::Call(error) if error.is_usage() => Exit::Usage,
            Self::NoStore { .. }
            | Self::Locked { .. }
            | Self::NotAlone { .. }
            | Self::Unfinished { .. }
            | Self::Call(_)
            | Self::Tool(_)
            | Self::Engine(_)
            | Self::Disk(_)
            | Self::Output(_)
            | Self::Document { .. } => Exit::Failed,
        }
    }
}
