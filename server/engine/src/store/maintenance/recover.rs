//! Going on after damage in the open segment of a journal.

use std::collections::BTreeMap;

use crate::api::{Caller, RecoverResult, ScopeRequest};
use crate::error::{EngineError, Result};
use crate::ids::Seq;
use crate::item::canonical;
use crate::journal::{Line, Op};
use crate::progress::Progress;
use crate::store::Engine;
use crate::store::command::{Command, Visibility, Who};
use crate::store::scope::ScopeStore;

impl Engine {
    /// `maintenance.recover`: sets a damaged open segment aside, keeps what comes before the
    /// damage, derives the views again, and writes once more what can be read after it, by scope.
    /// Scopes in order are left alone. The damaged file is kept for whoever wants to look at it.
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
        let results = self.each(caller, request, |scope| {
            let _alone = scope.state.maintenance.lock();
            recover(scope, caller, progress)
        })?;
        Ok(results.into_iter().filter_map(|(label, result)| Some((label, result?))).collect())
    }
}

fn recover(
    scope: &ScopeStore,
    caller: &Caller,
    progress: &dyn Progress,
) -> Result<Option<RecoverResult>> {
    let Some(recovered) = scope.writer.run(|journal| Ok(journal.recover()?))? else {
        return Ok(None);
    };
    // The views may hold records that were in the damaged file, or that are gone with its end.
    let shown = Seq(scope.state.read()?.totals()?.seq);
    scope.rebuild(progress)?;
    *scope.state.read_only.lock() = None;
    let mut result = RecoverResult {
        set_aside: recovered.set_aside,
        last_sound: recovered.head.seq,
        last_seen: recovered.last_seen.max(shown),
        salvaged: 0,
    };
    let total = recovered.salvaged.len() as u64;
    for line in recovered.salvaged {
        progress.report(result.salvaged, Some(total), "records salvaged");
        result.salvaged += u64::from(write_again(scope, caller, line)?);
    }
    Ok(Some(result))
}

/// Writes what a salvaged record did; false when it has no effect any more.
fn write_again(scope: &ScopeStore, caller: &Caller, line: Line) -> Result<bool> {
    let who = Who { subject: caller.subject.clone(), visibility: Visibility::all() };
    let record = line.record;
    let command = match (record.op, line.body) {
        (_, Some((_, body))) => Command::Import {
            op: Op::Import,
            content: Box::new(canonical::decode(&body)?),
            counters: None,
            if_version: None,
            who,
        },
        (op @ (Op::Delete | Op::Prune), None) => {
            Command::Delete { op, id: record.id, if_version: None, erase: false, who }
        }
        (_, None) => return Ok(false),
    };
    match scope.writer.write_waiting(command) {
        Ok(_) => Ok(true),
        Err(EngineError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
