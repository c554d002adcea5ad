//! What a program that is told to stop (Ctrl-C, `timeout`) takes with it: the servers it started
//! and the folders it made. Tests end on their own and need none of this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[derive(Debug, Default)]
struct Held {
    processes: BTreeSet<u32>,
    folders: BTreeSet<PathBuf>,
}

static HELD: Mutex<Held> =
    Mutex::new(Held { processes: BTreeSet::new(), folders: BTreeSet::new() });

fn held(change: impl FnOnce(&mut Held)) {
    change(&mut HELD.lock().unwrap_or_else(PoisonError::into_inner));
}

/// From now on SIGINT and SIGTERM end this program, its servers and its folders.
pub fn on_signal() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            held(|held| {
                for process in &held.processes {
                    if let Some(pid) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                        // It may just have ended by itself.
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
                for folder in &held.folders {
                    drop(std::fs::remove_dir_all(folder));
                }
            });
            #[expect(clippy::exit, reason = "this is what the signal asks for")]
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// A process that must not outlive this program.
pub(crate) fn hold_process(process: u32) {
    held(|held| _ = held.processes.insert(process));
}

/// A process that has ended.
pub(crate) fn release_process(process: u32) {
    held(|held| _ = held.processes.remove(&process));
}

/// A folder that must not outlive this program.
pub(crate) fn hold_folder(folder: &Path) {
    held(|held| _ = held.folders.insert(folder.to_path_buf()));
}

/// A folder that has been removed.
pub(crate) fn release_folder(folder: &Path) {
    held(|held| _ = held.folders.remove(folder));
}
