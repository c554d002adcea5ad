//! Many writes of one caller: several are under way at a time, so that one sync serves them all.

use std::collections::VecDeque;

use super::command::{Command, Outcome};
use super::writer::{Pending, WriterHandle};
use crate::error::Result;

/// Most writes under way at a time.
const MOST: usize = 256;

/// Writes under way, each with what the caller knows it by.
pub(crate) struct InFlight<'a, T> {
    writer: &'a WriterHandle,
    pending: VecDeque<(T, Pending)>,
}

impl<'a, T> InFlight<'a, T> {
    pub(crate) fn new(writer: &'a WriterHandle) -> Self {
        Self { writer, pending: VecDeque::new() }
    }

    /// Begins a write; answers what became of the oldest one when there are enough.
    pub(crate) fn begin(
        &mut self,
        tag: T,
        command: Command,
    ) -> Result<Option<(T, Result<Outcome>)>> {
        self.pending.push_back((tag, self.writer.submit(command)?));
        Ok(if self.pending.len() > MOST { self.end() } else { None })
    }

    /// What became of the oldest write; waits for it.
    pub(crate) fn end(&mut self) -> Option<(T, Result<Outcome>)> {
        let (tag, pending) = self.pending.pop_front()?;
        Some((tag, pending.wait()))
    }
}
