//! Standard error as the end of a sink.

use std::io;
use std::os::fd::AsFd as _;

use llm_memory_disk::DiskError;
use rustix::io::Errno;

use super::Output;

/// Standard error, without the lock that `std` puts around it: while nobody reads, the thread that
/// writes waits, and whoever wants to say a last word must not have to wait for the lock as well.
#[derive(Debug, Clone, Copy)]
pub struct Stderr;

impl Output for Stderr {
    fn put(&mut self, lines: &[u8]) -> Result<(), DiskError> {
        let mut rest = lines;
        while !rest.is_empty() {
            match rustix::io::write(io::stderr().as_fd(), rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(DiskError::new("write to", "stderr", error.into())),
            }
        }
        Ok(())
    }

    fn make_durable(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}
