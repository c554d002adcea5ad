//! Opening a scope: the journal first, then its views brought up to it.
//!
//! Views lie in `views/<generation>/`. A generation counts once its `complete` file is there; the
//! highest such one is used and the others are leftovers of an interrupted rebuild. A generation
//! that cannot be opened is dropped and derived again. One that contradicts the journal is kept
//! and served, and the scope takes no writes until that is settled (`contradiction`). Of a damaged
//! journal the views show what comes before the damage, and more only if they did already.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use llm_memory_disk::{Disk, remove_leftovers};
use parking_lot::{Mutex, RwLock};

use super::contradiction::{self, Contradiction};
use super::counted::Counted;
use super::generations;
use super::past::PastMemory;
use super::payloads::Payloads;
use super::replay::{Source, follow_text, lost_note, replay_catalog};
use super::scope::{Refusal, ScopeState, ScopeStore, Views};
use super::writer::WriterHandle;
use super::{ChangeListener, Options};
use crate::blocks::{BlockStore, FrameCache};
use crate::catalog::Catalog;
use crate::config::ScopeConfig;
use crate::error::{EngineError, Result};
use crate::ids::{ScopeKey, Seq};
use crate::journal::{Journal, JournalOptions};
use crate::progress::Progress;
use crate::text::{TextIndex, TextOptions};

/// File whose presence says that a generation of views was derived to its end.
const COMPLETE: &str = "complete";

/// What opening a scope needs besides its name.
pub(crate) struct Opening<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Path,
    pub(crate) options: &'a Options,
    pub(crate) payloads: &'a Arc<Payloads>,
    pub(crate) past: &'a Arc<PastMemory>,
    pub(crate) frames: &'a Arc<FrameCache>,
    pub(crate) listeners: &'a Arc<RwLock<Vec<ChangeListener>>>,
    pub(crate) cache_bytes: usize,
}

/// Opens (or creates) the scope `key`, recovers it, and starts its writer.
pub(crate) fn open(
    key: ScopeKey,
    opening: &Opening<'_>,
    progress: &dyn Progress,
) -> Result<ScopeStore> {
    let Opening { disk, dir, options, .. } = *opening;
    disk.create_dir_all(dir)?;
    let (config, config_fault) = match read_config(disk, dir) {
        Ok(config) => (config, None),
        // Reading with the defaults is harmless. Writing is not: the file may say what to refuse.
        Err(error @ EngineError::Invalid { .. }) => {
            tracing::error!(scope = %key, %error, "the defaults are used for reading");
            (ScopeConfig::default(), Some(format!("{error}: mend it and reload (SIGHUP)")))
        }
        Err(error) => return Err(error),
    };
    let journal_options = JournalOptions {
        segment_bytes: options.segment_bytes,
        signing_key: options.signing_key.clone(),
        read_only: options.safe_mode,
    };
    let (mut journal, mut recovered) = Journal::open(Arc::clone(disk), dir, journal_options)?;
    let blocks_dir = dir.join("blocks");
    let (blocks, notes) =
        BlockStore::open(Arc::clone(disk), &blocks_dir, opening.frames, options.safe_mode)?;
    recovered.extend(notes);
    let blocks = Arc::new(blocks);
    let reader = journal.reader();
    let source = Source { journal: &reader, blocks: &blocks, before: None };
    let damage = journal.damage();
    let until = damage.as_ref().map_or(journal.head().seq, |damage| damage.last_sound);
    let (views, contradiction) =
        open_views(opening, &source, until, opening.cache_bytes, &mut recovered, progress)?;
    match contradiction {
        Some(found) => journal.contradict(found.expected, found.found),
        None => {
            for kept in generations::reconcile(&views, &source, &mut journal, options) {
                recovered.push(format!("{kept}; maintenance.compact tries it again"));
            }
        }
    }
    for note in &recovered {
        tracing::warn!(scope = %key, note, "recovered");
    }
    let damage = journal.damage().map(|damage| {
        format!(
            "{} is damaged at byte {} (expected {}, found {}): run recover, or restore a backup",
            damage.file, damage.offset, damage.expected, damage.found
        )
    });
    let safe_mode = options.safe_mode.then_some(Refusal::SafeMode);
    let read_only = safe_mode.or_else(|| damage.map(Refusal::Damage));
    let view = views.catalog.read()?;
    let (visible, counted) = (view.totals()?.seq, Counted::of(&view)?);
    drop(view);
    let state = Arc::new(ScopeState {
        key,
        dir: dir.to_path_buf(),
        disk: Arc::clone(disk),
        options: options.clone(),
        views: ArcSwap::from_pointee(views),
        journal: reader,
        blocks,
        config: ArcSwap::from_pointee(config),
        config_generation: AtomicU64::new(0),
        payloads: Arc::clone(opening.payloads),
        past: Arc::clone(opening.past),
        listeners: Arc::clone(opening.listeners),
        visible: AtomicU64::new(visible),
        counted,
        read_only: Mutex::new(read_only),
        write_failure: Mutex::new(None),
        config_fault: Mutex::new(config_fault),
        recovered: Mutex::new(recovered),
        maintenance: Mutex::new(()),
        cache_bytes: opening.cache_bytes,
    });
    let writer = WriterHandle::start(Arc::clone(&state), journal)?;
    Ok(ScopeStore { state, writer })
}

pub(crate) fn read_config(disk: &Arc<dyn Disk>, dir: &Path) -> Result<ScopeConfig> {
    let path = dir.join("config.json");
    if !disk.exists(&path)? {
        return Ok(ScopeConfig::default());
    }
    let invalid = |reason: String| EngineError::invalid(path.display().to_string(), reason);
    let text = String::from_utf8(disk.read(&path)?).map_err(|error| invalid(error.to_string()))?;
    ScopeConfig::parse(&text).map_err(|error| invalid(error.to_string()))
}

fn open_views(
    opening: &Opening<'_>,
    source: &Source<'_>,
    until: Seq,
    cache_bytes: usize,
    recovered: &mut Vec<String>,
    progress: &dyn Progress,
) -> Result<(Views, Option<Contradiction>)> {
    let Opening { disk, dir, options, .. } = *opening;
    let root = dir.join("views");
    let mut generations = generations(disk, &root)?;
    let complete = generations.iter().rev().find(|(_, complete)| *complete);
    if let Some(&(generation, _)) = complete {
        match load(disk, &root, generation, cache_bytes, options) {
            Ok(views) => match follow(&views, source, until, recovered, progress) {
                Ok(contradiction) => {
                    remove_others(disk, &root, &generations, generation);
                    return Ok((views, contradiction));
                }
                Err(error @ (EngineError::Corrupt { .. } | EngineError::Internal { .. })) => {
                    recovered.push(format!("views were derived again: {error}"));
                }
                Err(error) => return Err(error),
            },
            Err(error @ (EngineError::Corrupt { .. } | EngineError::Internal { .. })) => {
                recovered.push(format!("views were derived again: {error}"));
            }
            Err(error) => return Err(error),
        }
    } else if until > Seq(0) && !generations.is_empty() {
        recovered.push("views were derived again: none was complete".to_owned());
    }
    // Attempts that failed take space that this one may need.
    for (generation, _) in generations.extract_if(.., |(_, complete)| !*complete) {
        disk.remove_dir_all(&root.join(generation.to_string()))?;
    }
    let next = generations.last().map_or(1, |(generation, _)| generation + 1);
    let (views, lost) = derive(disk, &root, next, cache_bytes, options, source, until, progress)?;
    if let Err(error) = mark_complete(disk, &root, next, options) {
        drop(views);
        remove_failed(disk, &root, next);
        return Err(error);
    }
    recovered.extend(lost_note(lost));
    if !options.safe_mode {
        remove_others(disk, &root, &generations, next);
    }
    Ok((views, None))
}

/// Derives a new generation of views from the journal and the blocks; says how many contents could
/// not be read there. Nothing is left of one that fails. It counts only after [`mark_complete`].
#[expect(clippy::too_many_arguments, reason = "one call site each in open and rebuild")]
pub(crate) fn derive(
    disk: &Arc<dyn Disk>,
    root: &Path,
    generation: u64,
    cache_bytes: usize,
    options: &Options,
    source: &Source<'_>,
    until: Seq,
    progress: &dyn Progress,
) -> Result<(Views, u64)> {
    let dir = root.join(generation.to_string());
    disk.remove_dir_all(&dir)?;
    let fill = || {
        let views = load(disk, root, generation, cache_bytes, options)?;
        let lost = replay_catalog(&views, source, until, progress)?;
        follow_text(&views, source, progress)?;
        views.catalog.make_durable()?;
        // In safe mode the index is in memory alone.
        if !options.safe_mode {
            views.text.flush()?;
        }
        Ok((views, lost))
    };
    fill().inspect_err(|_| remove_failed(disk, root, generation))
}

/// Makes a derived generation the one that the next start uses.
pub(crate) fn mark_complete(
    disk: &Arc<dyn Disk>,
    root: &Path,
    generation: u64,
    options: &Options,
) -> Result<()> {
    // In safe mode the index is in memory alone, so that there is no complete generation.
    if !options.safe_mode {
        disk.durable_write(&root.join(generation.to_string()).join(COMPLETE), b"")?;
    }
    Ok(())
}

/// Removes a generation that did not come into use. Where that fails as well, the next start or
/// `maintenance.cleanup` does it.
pub(crate) fn remove_failed(disk: &Arc<dyn Disk>, root: &Path, generation: u64) {
    if let Err(error) = disk.remove_dir_all(&root.join(generation.to_string())) {
        tracing::warn!(%error, "views that could not be derived were not removed");
    }
}

fn load(
    disk: &Arc<dyn Disk>,
    root: &Path,
    generation: u64,
    cache_bytes: usize,
    options: &Options,
) -> Result<Views> {
    let dir = root.join(generation.to_string());
    disk.create_dir_all(&dir)?;
    let catalog = Catalog::open(disk, &dir.join("catalog.redb"), cache_bytes)?;
    let index = dir.join("index");
    if !options.safe_mode {
        tidy(disk, &dir);
        if disk.exists(&index)? {
            tidy(disk, &index);
        }
    }
    let text_options = TextOptions { read_only: options.safe_mode, ..TextOptions::default() };
    let text = TextIndex::open(Arc::clone(disk), &index, text_options)?;
    Ok(Views { generation, catalog, text: Arc::new(text) })
}

/// Removes temporary files of a process that died from a folder that nobody writes to yet. They
/// are in nobody's way, so failing to is no reason to stop.
pub(crate) fn tidy(disk: &Arc<dyn Disk>, folder: &Path) {
    match remove_leftovers(disk.as_ref(), folder) {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => tracing::info!(folder = %folder.display(), ?removed, "leftovers removed"),
        Err(error) => tracing::warn!(%error, "leftovers could not be removed"),
    }
}

/// Generations present, lowest first, with whether each is complete.
pub(crate) fn generations(disk: &Arc<dyn Disk>, root: &Path) -> Result<Vec<(u64, bool)>> {
    if !disk.exists(root)? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in disk.list(root)? {
        if let Ok(generation) = entry.name.parse::<u64>() {
            found.push((generation, disk.exists(&root.join(&entry.name).join(COMPLETE))?));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes every generation but `keep`. A leftover that cannot be removed now is removed by the
/// next start or by `maintenance.cleanup`.
pub(crate) fn remove_others(disk: &Arc<dyn Disk>, root: &Path, found: &[(u64, bool)], keep: u64) {
    for (generation, _) in found.iter().filter(|(generation, _)| *generation != keep) {
        if let Err(error) = disk.remove_dir_all(&root.join(generation.to_string())) {
            tracing::warn!(%error, "old views could not be removed");
        }
    }
}

/// Brings both views up to record `until`, unless they contradict the journal.
fn follow(
    views: &Views,
    source: &Source<'_>,
    until: Seq,
    recovered: &mut Vec<String>,
    progress: &dyn Progress,
) -> Result<Option<Contradiction>> {
    // Where the journal is known to be damaged, that is what has to be settled.
    if source.journal.damage().is_none()
        && let Some(contradiction) = contradiction::find(views, source.journal)?
    {
        return Ok(Some(contradiction));
    }
    recovered.extend(lost_note(replay_catalog(views, source, until, progress)?));
    follow_text(views, source, progress)?;
    Ok(None)
}
