//! The one thread of a scope that writes.
//!
//! It takes as many waiting commands as there are, decides them one after the other inside one
//! catalog transaction, and makes them durable with one write and one sync of the journal. Only
//! then are they committed to the catalog, made searchable, and acknowledged.
//!
//! When the journal refuses, nothing of the batch counts: the catalog transaction is dropped and
//! every waiting caller gets the error. When the catalog refuses after the journal accepted, the
//! records are durable; the catalog is opened again and brought up to the journal, and if that
//! works the callers are none the wiser. If not, they are told that their writes are durable but
//! not to be seen yet, and the scope refuses writes until the catalog follows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::vec::IntoIter;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use llm_memory_disk::DiskError;
use parking_lot::Mutex;
use redb::Durability;

use super::ChangeEvent;
use super::command::{Command, Decider, Outcome, Rejection};
use super::scope::{ScopeState, Views};
use crate::catalog::{Applier, Tables, failure};
use crate::error::{EngineError, Result};
use crate::journal::Journal;
use crate::text::PreparedChange;

/// Most commands decided in one batch. Bounds how long the first one waits.
const BATCH_COMMANDS: usize = 256;
/// Most content bytes in one batch.
const BATCH_BYTES: usize = 4 << 20;
/// How long the catalog may lag behind on disk while writes come in.
const DURABLE_EVERY: Duration = Duration::from_secs(1);
/// How many content bytes it may lag.
const DURABLE_BYTES: usize = 8 << 20;
/// What a caller that finds the queue full is told to wait.
const RETRY_AFTER_MS: u64 = 50;

/// Work done on the writer's thread, between batches, with the journal to itself.
pub(crate) type Task = Box<dyn FnOnce(&mut Journal) + Send>;

enum Message {
    Write {
        command: Box<Command>,
        reply: Sender<Result<Outcome>>,
    },
    Run(Task),
    /// The catalog failed a reader.
    Nudge,
    Stop,
}

/// A write in the queue.
pub(crate) struct Pending(Receiver<Result<Outcome>>);

impl Pending {
    /// Waits until it is durable.
    pub(crate) fn wait(self) -> Result<Outcome> {
        self.0.recv().unwrap_or(Err(EngineError::Closed))
    }
}

/// The way to a scope's writer.
pub(crate) struct WriterHandle {
    sender: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WriterHandle {
    /// Starts the thread.
    pub(crate) fn start(state: Arc<ScopeState>, journal: Journal) -> Result<Self> {
        let (sender, receiver) = bounded(state.options.write_queue.max(1));
        let writer = Writer {
            state,
            journal,
            undurable_bytes: 0,
            durable_at: Instant::now(),
            dirty: false,
            behind: None,
            unannounced: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("scope-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| EngineError::Internal {
                context: "start a writer thread",
                message: error.to_string(),
            })?;
        Ok(Self { sender, thread: Mutex::new(Some(thread)) })
    }

    /// Has `command` decided and made durable; waits for that.
    ///
    /// # Errors
    ///
    /// [`EngineError::Busy`] at once when the queue is full.
    pub(crate) fn write(&self, command: Command) -> Result<Outcome> {
        let (reply, answer) = bounded(1);
        let message = Message::Write { command: Box::new(command), reply };
        match self.sender.try_send(message) {
            Ok(()) => answer.recv().unwrap_or(Err(EngineError::Closed)),
            Err(TrySendError::Full(_)) => Err(EngineError::Busy {
                waiting: self.sender.len(),
                retry_after_ms: RETRY_AFTER_MS,
            }),
            Err(TrySendError::Disconnected(_)) => Err(EngineError::Closed),
        }
    }

    /// Like [`WriterHandle::write`], but waits for a place in the queue: for work that is one
    /// caller's and paces itself.
    pub(crate) fn write_waiting(&self, command: Command) -> Result<Outcome> {
        self.submit(command)?.wait()
    }

    /// The first half of [`WriterHandle::write_waiting`].
    pub(crate) fn submit(&self, command: Command) -> Result<Pending> {
        let (reply, answer) = bounded(1);
        let message = Message::Write { command: Box::new(command), reply };
        self.sender.send(message).map_err(|_| EngineError::Closed)?;
        Ok(Pending(answer))
    }

    /// Runs `task` on the writer's thread and waits for its result.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Journal) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = bounded(1);
        let task: Task = Box::new(move |journal| {
            // The caller waits below; it can only be gone when its thread died.
            let _ = reply.send(task(journal));
        });
        self.sender.send(Message::Run(task)).map_err(|_| EngineError::Closed)?;
        answer.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// Says that the catalog may have failed a reader: it does nothing more until it is opened
    /// again.
    pub(crate) fn nudge(&self) {
        // A full queue means that there are writes, and they meet the failure as well.
        let _ = self.sender.try_send(Message::Nudge);
    }

    /// Lets everything queued finish and ends the thread.
    pub(crate) fn stop(&self) {
        // A disconnected channel means the thread is gone already.
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("a writer thread ended in a panic");
        }
    }
}

struct Writer {
    state: Arc<ScopeState>,
    journal: Journal,
    undurable_bytes: usize,
    durable_at: Instant,
    dirty: bool,
    /// Generation of the views whose catalog has failed and must be opened again before it is
    /// used.
    behind: Option<u64>,
    /// Events of durable records that the views do not show yet.
    unannounced: Vec<ChangeEvent>,
}

type Waiting = (Box<Command>, Sender<Result<Outcome>>);
type Decided = (Sender<Result<Outcome>>, Outcome);

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let first = if self.dirty {
                match receiver.recv_timeout(DURABLE_EVERY) {
                    Ok(message) => message,
                    Err(RecvTimeoutError::Timeout) => {
                        self.make_durable();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            };
            let mut batch: Vec<Waiting> = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            let mut after = None;
            while let Some(message) = next {
                match message {
                    Message::Write { command, reply } => {
                        bytes += command.weight();
                        batch.push((command, reply));
                    }
                    other @ (Message::Run(_) | Message::Nudge | Message::Stop) => {
                        after = Some(other);
                        break;
                    }
                }
                if batch.len() >= BATCH_COMMANDS || bytes >= BATCH_BYTES {
                    break;
                }
                next = receiver.try_recv().ok();
            }
            if !batch.is_empty() {
                self.write_batch(batch);
            }
            match after {
                Some(Message::Run(task)) => task(&mut self.journal),
                Some(Message::Nudge) => self.look_after_catalog(),
                Some(Message::Stop) => break,
                Some(Message::Write { .. }) | None => {}
            }
            if self.dirty
                && (self.undurable_bytes >= DURABLE_BYTES
                    || self.durable_at.elapsed() >= DURABLE_EVERY)
            {
                self.make_durable();
            }
        }
        self.finish();
    }

    fn write_batch(&mut self, batch: Vec<Waiting>) {
        if let Some(reason) = self.refusal() {
            self.note_failure(&reason());
            for (_, reply) in batch {
                let _ = reply.send(Err(reason()));
            }
            return;
        }
        let mut batch = batch.into_iter();
        let mut replies = Vec::with_capacity(batch.len());
        while batch.len() > 0 {
            let Err(error) = self.try_batch(&mut batch, &mut replies) else { continue };
            self.journal.rollback();
            self.note_failure(&error);
            tracing::warn!(scope = %self.state.key, %error, "a batch of writes failed");
            answer_failed(&error, &mut replies, &mut batch);
        }
    }

    /// Remembers that the disk did not take a write. Why a scope takes none is told by itself, and
    /// ends with its cause.
    fn note_failure(&self, error: &EngineError) {
        use EngineError::{Disk, NoSpace, Reserved};
        if matches!(error, Disk(_) | NoSpace { .. } | Reserved { .. }) {
            *self.state.write_failure.lock() = Some(error.to_string());
        }
    }

    /// A closure that makes the error for refused writes, when they are refused.
    fn refusal(&self) -> Option<Box<dyn Fn() -> EngineError>> {
        if let Some(reason) = self.state.refusal() {
            return Some(Box::new(move || EngineError::ReadOnly { reason: reason.clone() }));
        }
        if let Some(reason) = self.state.views.load().text.overfull() {
            return Some(Box::new(move || EngineError::ReadOnly { reason: reason.clone() }));
        }
        let reserve = self.state.options.reserve_bytes;
        match self.state.disk.space(&self.state.dir) {
            Ok(space) if space.available < reserve => {
                Some(Box::new(move || EngineError::Reserved { reserve }))
            }
            _ => None,
        }
    }

    fn try_batch(
        &mut self,
        batch: &mut IntoIter<Waiting>,
        replies: &mut Vec<Decided>,
    ) -> Result<()> {
        let mut failed = None;
        let (views, txn) = self.begin()?;
        let (changes, events, staged, bytes) = {
            let mut tables = Tables::open(&txn)?;
            let applier = Applier::new(&mut tables)?;
            let mut decider = Decider::new(&self.state, &views, &mut self.journal, applier);
            // What a change comes to is not known before; the rest goes into the next transaction.
            while decider.bytes() < BATCH_BYTES
                && let Some((command, reply)) = batch.next()
            {
                match decider.decide(*command) {
                    Ok(outcome) => replies.push((reply, outcome)),
                    Err(Rejection::Command(error)) => {
                        let _ = reply.send(Err(error));
                    }
                    Err(Rejection::Batch(error)) => {
                        let _ = reply.send(Err(describe(&error)()));
                        failed = Some(error);
                        break;
                    }
                }
            }
            decider.finish()?
        };
        if let Some(error) = failed {
            return Err(error);
        }
        if staged == 0 {
            for (reply, outcome) in replies.drain(..) {
                let _ = reply.send(Ok(outcome));
            }
            return Ok(());
        }
        self.journal.commit()?;
        // From here on the records are durable, whatever happens to the views.
        *self.state.write_failure.lock() = None;
        match txn.commit().map_err(|error| failure("commit to the catalog", error)) {
            Ok(()) => {
                let seq = self.journal.head().seq;
                views.text.apply_prepared(
                    changes.into_iter().chain([PreparedChange::Advance(seq)]).collect(),
                );
                self.state.visible.store(seq.0, Ordering::Release);
            }
            Err(error) => {
                if let Err(unsettled) = self.catch_up(&views, &error) {
                    self.unannounced.extend(events);
                    return Err(unsettled);
                }
            }
        }
        self.dirty = true;
        self.undurable_bytes += bytes;
        for (reply, outcome) in replies.drain(..) {
            let _ = reply.send(Ok(outcome));
        }
        self.announce(&events);
        Ok(())
    }

    /// Brings the views up to the journal after the catalog refused a durable batch.
    fn catch_up(&mut self, views: &Views, error: &EngineError) -> Result<()> {
        tracing::error!(scope = %self.state.key, %error, "the catalog refused durable records");
        self.behind = Some(views.generation);
        self.views().map(drop).map_err(|again| {
            tracing::error!(scope = %self.state.key, error = %again, "the catalog is still behind");
            EngineError::Unsettled { reason: error.to_string() }
        })
    }

    /// Begins a transaction on a catalog that holds everything that is in the journal.
    fn begin(&mut self) -> Result<(Arc<Views>, redb::WriteTransaction)> {
        let views = self.views()?;
        if let Ok(txn) = views.catalog.begin_write(Durability::None) {
            return Ok((views, txn));
        }
        // It does nothing more after one failed read, write or sync.
        self.behind = Some(views.generation);
        let views = self.views()?;
        let txn = views.catalog.begin_write(Durability::None)?;
        Ok((views, txn))
    }

    /// The views; a catalog that fell behind is opened again first. While the disk goes on
    /// failing that fails as well and is tried again with the next write, and every so often
    /// without one. What else fails stays so until the views are derived again.
    fn views(&mut self) -> Result<Arc<Views>> {
        let views = self.state.views.load_full();
        let Some(behind) = self.behind else { return Ok(views) };
        if behind == views.generation {
            if let (true, Some(reason)) = (self.state.refuses_for_catalog(), self.state.refusal()) {
                self.dirty = false;
                return Err(EngineError::ReadOnly { reason });
            }
            self.dirty = true;
            super::replay::reopen(&self.state).inspect_err(|error| {
                if !matches!(error, EngineError::NoSpace { .. } | EngineError::Disk(_)) {
                    self.state.refuse_for_catalog(format!(
                        "the catalog does not follow the journal ({error}): run \
                         maintenance.rebuild, or restart the server"
                    ));
                }
            })?;
        }
        self.behind = None;
        let events = std::mem::take(&mut self.unannounced);
        self.announce(&events);
        Ok(self.state.views.load_full())
    }

    /// Opens the catalog again if it has failed.
    fn look_after_catalog(&mut self) {
        if let Err(error) = self.begin() {
            tracing::warn!(scope = %self.state.key, %error, "the catalog failed");
        }
    }

    fn announce(&self, events: &[ChangeEvent]) {
        let listeners = self.state.listeners.read();
        for event in events {
            for listener in listeners.iter() {
                listener(event);
            }
        }
    }

    fn make_durable(&mut self) {
        match self.views().and_then(|views| views.catalog.make_durable()) {
            Ok(()) => {
                self.dirty = false;
                self.undurable_bytes = 0;
            }
            Err(error) => {
                // The journal has everything; the next attempt or the next start mends the view.
                self.behind = Some(self.state.views.load().generation);
                tracing::warn!(scope = %self.state.key, %error, "the catalog could not be synced");
            }
        }
        self.durable_at = Instant::now();
    }

    fn finish(mut self) {
        if self.dirty {
            self.make_durable();
        }
        let views = self.state.views.load_full();
        if let Err(error) = views.text.close() {
            tracing::warn!(scope = %self.state.key, %error, "the text index could not be closed");
        }
    }
}

/// Answers those whom the failure of a transaction concerns: everybody waiting, but where records
/// are durable all the same only those who wrote them. The rest is still to be decided, and meets
/// what is wrong by itself.
fn answer_failed(error: &EngineError, decided: &mut Vec<Decided>, rest: &mut IntoIter<Waiting>) {
    let told = describe(error);
    for (reply, _) in decided.drain(..) {
        let _ = reply.send(Err(told()));
    }
    if matches!(error, EngineError::Unsettled { .. }) {
        return;
    }
    for (_, reply) in rest {
        let _ = reply.send(Err(told()));
    }
}

/// Makes the same error for several callers: errors own their sources and cannot be cloned.
fn describe(error: &EngineError) -> impl Fn() -> EngineError + use<> {
    let unsettled = matches!(error, EngineError::Unsettled { .. });
    let (disk, message) = if let EngineError::NoSpace { source } | EngineError::Disk(source) = error
    {
        let failed = (source.operation, source.path.clone(), source.source.kind());
        (Some(failed), source.source.to_string())
    } else if let EngineError::ReadOnly { reason } | EngineError::Unsettled { reason } = error {
        (None, reason.clone())
    } else {
        (None, error.to_string())
    };
    move || match &disk {
        Some((operation, path, kind)) => {
            DiskError::new(operation, path, io::Error::new(*kind, message.clone())).into()
        }
        None if unsettled => EngineError::Unsettled { reason: message.clone() },
        None => EngineError::ReadOnly { reason: message.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::{Visibility, Who};
    use super::*;
    use crate::ids::{ItemId, Scope, Seq, Version};
    use crate::journal::Op;

    #[test]
    fn only_who_was_decided_is_told_that_the_write_is_durable() {
        let full = || DiskError::new("write", "x", io::Error::other("fails")).into();
        for (error, meets_it) in
            [(EngineError::Unsettled { reason: "behind".to_owned() }, false), (full(), true)]
        {
            let ((decided, answered), (waiting, met)) = (bounded(1), bounded(1));
            let id = ItemId::new("a").unwrap();
            let (scope, version, seq) = (Scope::Local, Version(1), Seq(1));
            let outcome = super::super::command::result(id.clone(), scope, version, seq);
            let who = Who { subject: "x".to_owned(), visibility: Visibility::all() };
            let command =
                Command::Delete { op: Op::Delete, id, if_version: None, erase: false, who };
            let mut rest = vec![(Box::new(command), waiting)].into_iter();
            answer_failed(&error, &mut vec![(decided, outcome)], &mut rest);
            assert_eq!(answered.recv().unwrap().unwrap_err().code(), error.code());
            assert_eq!((met.try_recv().is_ok(), rest.len()), (meets_it, usize::from(!meets_it)));
        }
    }
}
