//! The exit status of the process, as a type.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: healthy, done.
    Done,
    /// 1: done, with a warning or a finding that a person should look at.
    Finding,
    /// 2: critical finding, or the command failed.
    Failed,
    /// 64: the command line or the configuration is wrong; nothing was tried.
    Usage,
}

impl Exit {
    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Finding => 1,
            Self::Failed => 2,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
