//! Lines written by a thread of their own, to rotated files (the audit log, the server log, the
//! metrics history) or to stderr.
//!
//! Whoever writes a line never waits: the queue is bounded, and a line that finds it full is
//! dropped and counted. A failing disk loses lines too; they are counted the same way, and the
//! thread tries again with the next batch.

pub mod names;
pub mod rolling;
pub mod stderr;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use llm_memory_disk::{Disk, DiskError};
use llm_memory_engine::ids::Timestamp;
use parking_lot::Mutex;

use rolling::{Policy, RollingFile};

/// Lines that may wait.
const QUEUE: usize = 8192;
/// Bytes written at once.
const BATCH_BYTES: usize = 256 << 10;
/// How long written lines may stay unsynced.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Where the lines of a sink go.
pub trait Output: Send + 'static {
    /// Writes whole lines.
    fn put(&mut self, lines: &[u8]) -> Result<(), DiskError>;

    /// Makes everything written durable.
    fn make_durable(&mut self) -> Result<(), DiskError>;
}

impl Output for RollingFile {
    fn put(&mut self, lines: &[u8]) -> Result<(), DiskError> {
        self.append(lines, Timestamp::now())
    }

    fn make_durable(&mut self) -> Result<(), DiskError> {
        self.sync()
    }
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// An output that takes lines from any thread without making it wait.
#[derive(Debug)]
pub struct LineSink {
    sender: Mutex<Option<SyncSender<Message>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

impl LineSink {
    /// Opens the file and starts the thread.
    pub fn start(
        disk: Arc<dyn Disk>,
        folder: &Path,
        policy: Policy,
        thread_name: &str,
    ) -> Result<Self, DiskError> {
        let file = RollingFile::open(disk, folder, policy, Timestamp::now())?;
        Self::over(file, thread_name)
    }

    /// Starts a thread that writes to `output`.
    pub fn over(output: impl Output, thread_name: &str) -> Result<Self, DiskError> {
        let (sender, receiver) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name(thread_name.to_owned())
            .spawn(move || write_lines(&receiver, output, &counter))
            .map_err(|source| {
                DiskError::new("start the thread that writes", thread_name, source)
            })?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), dropped })
    }

    /// Queues one line, without its newline. Returns at once.
    pub fn write(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        let queued = match &*self.sender.lock() {
            Some(sender) => sender.try_send(Message::Line(line)).is_ok(),
            None => false,
        };
        if !queued {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost so far to a full queue or a failing disk.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything queued before is on the disk, but no longer than `limit`: the
    /// reader of a pipe may have stopped reading.
    pub fn flush(&self, limit: Duration) {
        let sender = self.sender.lock().clone();
        let Some(sender) = sender else { return };
        let until = Instant::now() + limit;
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = sender.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            std::thread::yield_now();
        }
        // An error means that the thread is gone, and with it everything that was queued.
        let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    /// Writes what is queued and ends the thread. Later lines are dropped.
    pub fn close(&self) {
        drop(self.sender.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }
}

impl Drop for LineSink {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_lines(receiver: &Receiver<Message>, mut output: impl Output, dropped: &AtomicU64) {
    let mut complained: Option<Instant> = None;
    let mut unsynced: Option<Instant> = None;
    let mut complain = |error: &DiskError, lines: u64| {
        dropped.fetch_add(lines, Ordering::Relaxed);
        // The log may be the very file that fails, so stderr it is, once a minute.
        if complained.is_none_or(|last| last.elapsed() > Duration::from_secs(60)) {
            complained = Some(Instant::now());
            drop(writeln!(io::stderr().lock(), "{{\"level\":\"ERROR\",\"message\":\"{error}\"}}"));
        }
    };
    loop {
        let wait = match unsynced {
            Some(since) => SYNC_EVERY.saturating_sub(since.elapsed()),
            None => Duration::from_secs(3600),
        };
        let first = match receiver.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut batch = Vec::new();
        let mut lines = 0;
        let mut waiting = Vec::new();
        let mut next = first;
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Message::Flush(done) => waiting.push(done),
            }
            if batch.len() < BATCH_BYTES {
                next = receiver.try_recv().ok();
            }
        }
        if !batch.is_empty() {
            match output.put(&batch) {
                Ok(()) => unsynced = unsynced.or_else(|| Some(Instant::now())),
                Err(error) => complain(&error, lines),
            }
        }
        if !waiting.is_empty() || unsynced.is_some_and(|since| since.elapsed() >= SYNC_EVERY) {
            if let Err(error) = output.make_durable() {
                complain(&error, 0);
            }
            unsynced = None;
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
    if let Err(error) = output.make_durable() {
        complain(&error, 0);
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    fn policy() -> Policy {
        Policy {
            stem: "x",
            extension: "ndjson",
            dated: false,
            max_bytes: 1 << 20,
            keep_days: 3,
            max_total_bytes: 4 << 20,
        }
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let sink = LineSink::start(Arc::new(OsDisk), folder.path(), policy(), "test").unwrap();
        for number in 0..1000 {
            sink.write(format!("line {number}").into_bytes());
        }
        sink.flush(Duration::from_secs(60));
        let text =
            String::from_utf8(OsDisk.read(&folder.path().join("x.ndjson")).unwrap()).unwrap();
        let expected: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert_eq!(sink.dropped(), 0);
    }

    /// An output whose reader has stopped reading until the gate's other end is dropped.
    struct Stuck(Receiver<()>);

    impl Output for Stuck {
        fn put(&mut self, _lines: &[u8]) -> Result<(), DiskError> {
            let _ = self.0.recv();
            Ok(())
        }

        fn make_durable(&mut self) -> Result<(), DiskError> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_an_output_that_is_stuck() {
        let (open, gate) = sync_channel(1);
        let sink = LineSink::over(Stuck(gate), "test").unwrap();
        let line = vec![b'x'; 1000];
        let written = u64::try_from(2 * QUEUE).unwrap();
        for _ in 0..written {
            sink.write(line.clone());
        }
        sink.flush(Duration::ZERO);
        let taken = written - sink.dropped();
        let batch = u64::try_from(BATCH_BYTES / line.len() + 1).unwrap();
        assert!(taken <= u64::try_from(QUEUE).unwrap() + batch, "{taken}");
        drop(open);
    }

    #[test]
    fn lines_after_the_end_are_counted_as_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let sink = LineSink::start(Arc::new(OsDisk), folder.path(), policy(), "test").unwrap();
        sink.write(b"kept".to_vec());
        sink.close();
        sink.write(b"lost".to_vec());
        assert_eq!(sink.dropped(), 1);
        assert_eq!(OsDisk.read(&folder.path().join("x.ndjson")).unwrap(), b"kept\n");
    }
}
