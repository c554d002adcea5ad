//! Drawing again whenever something changes.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::runtime::watcher;

use crate::error::Failure;
use crate::exit::Exit;
use crate::printer::Printer;

/// Changes that come at once are drawn once.
const SETTLE: Duration = Duration::from_millis(200);
/// Ages grow without any change; this also stands in for a watch that is not allowed.
const LATEST: Duration = Duration::from_secs(10);

/// Draws now, and again after each change. `changes` backs off by itself. What is drawn is read
/// afresh each time: the changes only say when, so that a watch that breaks costs nothing but
/// delay. Once something was drawn, an API server that does not answer is waited for.
pub(crate) async fn whenever<T>(
    printer: Printer,
    changes: impl Stream<Item = watcher::Result<T>> + Send,
    mut draw: impl AsyncFnMut() -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let mut changes = pin!(changes);
    let mut drawn = false;
    loop {
        match draw().await {
            Ok(()) => drawn = true,
            Err(failure) if drawn && failure.may_pass() => {
                printer.note(&format!("{failure}; trying again"));
            }
            Err(failure) => return Err(failure),
        }
        let next = async {
            while let Some(change) = changes.next().await {
                if change.is_ok() {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        if tokio::time::timeout(LATEST, next).await.is_ok() {
            let more = async { while changes.next().await.is_some() {} };
            // Elapsing is how it is meant to end.
            let _ = tokio::time::timeout(SETTLE, more).await;
        }
    }
}
