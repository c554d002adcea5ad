//! Going on after damage in the open segment of a journal.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::api::{Caller, RecoverResult, ScopeRequest};
use crate::error::{EngineError, Result};
use crate::ids::Seq;
use crate::progress::Progress;
use crate::store::Engine;
use crate::store::routing::Access;
use crate::store::scope::ScopeStore;

impl Engine {
    /// `maintenance.recover`: sets a damaged open segment aside, keeps the records before the
    /// damage and those after it that can be read, and derives the views again, by scope. Scopes
    /// in order are left alone. The damaged file is kept for whoever wants to look at it.
    pub fn recover(
        &self,
        caller: &Caller,
        request: ScopeRequest,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, RecoverResult>> {
        if self.options.safe_mode {
            return Err(EngineError::ReadOnly {
                reason: "the server runs in safe mode: restart it without LLM_MEMORY_SAFE_MODE"
                    .to_owned(),
            });
        }
        let results = self.each(caller, request, Access::Write, |scope| {
            let _alone = scope.state.maintenance.lock();
            recover(scope, progress)
        })?;
        Ok(results.into_iter().filter_map(|(label, result)| Some((label, result?))).collect())
    }
}

fn recover(scope: &ScopeStore, progress: &dyn Progress) -> Result<Option<RecoverResult>> {
    let state = &scope.state;
    if state.journal.damage().is_none() {
        return Ok(None);
    }
    // The views may hold records that were in the damaged file, or that are gone with its end.
    let views = state.views.load_full();
    let shown = Seq(views.catalog.read()?.totals()?.seq).max(views.text.watermark());
    drop(views);
    // If this ends before the views are derived again, they contradict the new journal as far as
    // they show anything that is not in it, and the next start finds that.
    let Some(recovered) = scope.writer.run(|journal| Ok(journal.recover()?))? else {
        return Ok(None);
    };
    if let Err(error) = scope.rebuild(progress) {
        // So that it can be run again.
        scope.writer.run(|journal| {
            let (expected, found) = ("views of the recovered journal", "those of before");
            journal.contradict(expected.to_owned(), found.to_owned());
            Ok(())
        })?;
        return Err(error);
    }
    // The views of before did not show the counters of what has been salvaged.
    state.read()?.each_counted(|id| state.counted.insert(id))?;
    // Positions are given out again, so what caches have by position does not hold any more.
    state.config_generation.fetch_add(1, Ordering::Release);
    *state.read_only.lock() = None;
    Ok(Some(RecoverResult {
        set_aside: recovered.set_aside,
        last_sound: recovered.last_sound,
        last_seen: recovered.last_seen.max(shown),
        salvaged: recovered.salvaged,
    }))
}
