//! The exit status of the plugin, as a type. The numbers are those of the server's command line.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, nothing to look at.
    Done,
    /// 1: done, with a finding that a person should look at.
    Finding,
    /// 2: a critical finding, or the command failed.
    Failed,
    /// 64: the command line is wrong; nothing was tried.
    Usage,
    /// What a container of the cluster ended with, handed on as it is.
    Container(u8),
}

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Finding => 1,
            Self::Failed => 2,
            Self::Usage => 64,
            Self::Container(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
