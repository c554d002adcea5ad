//! Live subscriptions: changes that the engine made durable, handed to whoever watches a
//! resource that they touch.
//!
//! The channel is bounded. A watcher that falls behind is told that everything it watches may
//! have changed, which is always a right answer: a notification only says "read again".

#![expect(
    deprecated,
    reason = "logging is deprecated in the current revision and required by the older one"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use llm_memory_engine::ids::{ItemId, ProjectId, Scope, TenantId};
use llm_memory_engine::store::{ChangeEvent, ChangeListener};
use parking_lot::Mutex;
use rmcp::RoleServer;
use rmcp::model::{LoggingLevel, ResourceUpdatedNotificationParam};
use rmcp::service::{Peer, SubscriptionContext};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mcp::Shared;
use crate::mcp::auth::Authenticate;
use crate::mcp::origin::Origin;

/// Notices that a watcher may be behind before it is told that everything changed.
const CAPACITY: usize = 1024;
/// Resources that one session or subscription may watch.
pub(crate) const MAX_WATCHES: usize = 256;

/// Something that watchers may want to know.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// An item changed.
    Item(Arc<ChangeEvent>),
    /// A resource that is not derived from items changed.
    Resource(String),
    /// The list of tools changed.
    Tools,
    /// The list of prompts changed.
    Prompts,
}

/// The hub between the engine and the watchers.
#[derive(Debug)]
pub(crate) struct Changes {
    sender: broadcast::Sender<Notice>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY) }
    }

    /// What the engine calls after each durable change.
    pub(crate) fn listener(&self) -> ChangeListener {
        let sender = self.sender.clone();
        Box::new(move |event| {
            // Nobody watching is not a failure.
            if sender.receiver_count() > 0 {
                let _ = sender.send(Notice::Item(Arc::new(event.clone())));
            }
        })
    }

    pub(crate) fn publish(&self, notice: Notice) {
        let _ = self.sender.send(notice);
    }

    fn watch(&self) -> Inbox {
        Inbox { receiver: self.sender.subscribe() }
    }
}

/// What arrived since the watcher last looked.
struct Batch {
    notices: Vec<Notice>,
    /// Some were lost.
    overrun: bool,
}

struct Inbox {
    receiver: broadcast::Receiver<Notice>,
}

impl Inbox {
    /// Waits for a notice and takes all that are there, so that a burst of writes becomes one
    /// notification a resource. `None` when the server is gone.
    async fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch { notices: Vec::new(), overrun: false };
        match self.receiver.recv().await {
            Ok(notice) => batch.notices.push(notice),
            Err(RecvError::Lagged(_)) => batch.overrun = true,
            Err(RecvError::Closed) => return None,
        }
        while batch.notices.len() < CAPACITY {
            match self.receiver.try_recv() {
                Ok(notice) => batch.notices.push(notice),
                Err(broadcast::error::TryRecvError::Lagged(_)) => batch.overrun = true,
                Err(_) => break,
            }
        }
        Some(batch)
    }
}

/// What has to change for a watched resource to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) project: Option<ProjectId>,
    /// Scopes that the caller may read and the resource shows.
    pub(crate) scopes: Vec<Scope>,
    /// Only this item.
    pub(crate) id: Option<ItemId>,
}

impl Watch {
    fn touched_by(&self, event: &ChangeEvent) -> bool {
        let key = &event.key;
        self.tenant == key.tenant
            && self.scopes.contains(&key.scope)
            && (key.scope == Scope::Global || self.project == key.project)
            && self.id.as_ref().is_none_or(|id| *id == event.id)
    }
}

/// The resources that `batch` touched.
fn touched<'a>(
    batch: &'a Batch,
    watches: impl Iterator<Item = (&'a String, &'a Watch)>,
) -> BTreeSet<&'a str> {
    watches
        .filter(|(uri, watch)| {
            batch.overrun
                || batch.notices.iter().any(|notice| match notice {
                    Notice::Item(event) => watch.touched_by(event),
                    Notice::Resource(changed) => changed == *uri,
                    Notice::Tools | Notice::Prompts => false,
                })
        })
        .map(|(uri, _)| uri.as_str())
        .collect()
}

/// A watch, and who asked for it: a session may outlive the token that it began with.
#[derive(Debug, Clone)]
struct Watched {
    watch: Watch,
    origin: Origin,
}

/// State of one session of the 2025-11-25 protocol, or of one connection.
pub(crate) struct Session {
    watches: Mutex<BTreeMap<String, Watched>>,
    /// Set once the task that notifies runs; ends it when the session goes.
    pump: Mutex<Option<DropGuard>>,
    level: Mutex<Option<LoggingLevel>>,
}

impl Session {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            watches: Mutex::new(BTreeMap::new()),
            pump: Mutex::new(None),
            level: Mutex::new(None),
        })
    }

    pub(crate) fn set_level(&self, level: LoggingLevel) {
        *self.level.lock() = Some(level);
    }

    pub(crate) fn level(&self) -> Option<LoggingLevel> {
        *self.level.lock()
    }

    /// Watches `uri` for `origin` behind `peer`; false when the session watches too much already.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        shared: &Shared,
        origin: &Origin,
        peer: &Peer<RoleServer>,
        uri: String,
        watch: Watch,
    ) -> bool {
        {
            let mut watches = self.watches.lock();
            if watches.len() >= MAX_WATCHES && !watches.contains_key(&uri) {
                return false;
            }
            watches.insert(uri, Watched { watch, origin: origin.clone() });
        }
        let mut pump = self.pump.lock();
        if pump.is_none() {
            let stop = CancellationToken::new();
            *pump = Some(stop.clone().drop_guard());
            let task = notify(
                Arc::downgrade(self),
                shared.changes.watch(),
                peer.clone(),
                Arc::clone(&shared.authenticator),
                stop,
            );
            tokio::spawn(task);
        }
        true
    }

    /// The watches that `batch` touched, by URI.
    fn touched(&self, batch: &Batch) -> Vec<(String, Origin)> {
        let watches = self.watches.lock();
        let seen = watches.iter().map(|(uri, watched)| (uri, &watched.watch));
        touched(batch, seen)
            .into_iter()
            .filter_map(|uri| Some((uri.to_owned(), watches.get(uri)?.origin.clone())))
            .collect()
    }

    /// Ends the watch of `uri`, unless it has meanwhile been asked for with another token.
    fn forget(&self, uri: &str, origin: &Origin) {
        let mut watches = self.watches.lock();
        if watches.get(uri).is_some_and(|watched| watched.origin.token == origin.token) {
            watches.remove(uri);
        }
    }

    pub(crate) fn unsubscribe(&self, uri: &str) {
        self.watches.lock().remove(uri);
    }
}

async fn notify(
    session: Weak<Session>,
    mut inbox: Inbox,
    peer: Peer<RoleServer>,
    authenticator: Arc<dyn Authenticate>,
    stop: CancellationToken,
) {
    loop {
        let batch = tokio::select! {
            batch = inbox.next() => batch,
            () = stop.cancelled() => return,
        };
        let Some(batch) = batch else { return };
        let Some(changed) = session.upgrade().map(|session| session.touched(&batch)) else {
            return;
        };
        for (uri, origin) in changed {
            if !origin.holds(&*authenticator).await {
                let Some(session) = session.upgrade() else { return };
                session.forget(&uri, &origin);
                continue;
            }
            let note = ResourceUpdatedNotificationParam::new(uri);
            if peer.notify_resource_updated(note).await.is_err() {
                return;
            }
        }
        for notice in &batch.notices {
            let sent = match notice {
                Notice::Tools => peer.notify_tool_list_changed().await,
                Notice::Prompts => peer.notify_prompt_list_changed().await,
                Notice::Item(_) | Notice::Resource(_) => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// Serves one `subscriptions/listen` until the client ends it or is not let in any more.
pub(crate) async fn listen(
    shared: &Shared,
    context: &SubscriptionContext,
    origin: &Origin,
    watches: BTreeMap<String, Watch>,
) {
    let mut inbox = shared.changes.watch();
    let sink = context.sink();
    loop {
        let batch = tokio::select! {
            batch = inbox.next() => batch,
            () = context.cancelled() => return,
        };
        let Some(batch) = batch else { return };
        let changed = touched(&batch, watches.iter());
        if !changed.is_empty() && !origin.holds(&*shared.authenticator).await {
            return;
        }
        for uri in changed {
            if sink.notify_resource_updated(uri).await.is_err() {
                return;
            }
        }
        let accepted = context.accepted();
        let tools = batch.notices.iter().any(|notice| matches!(notice, Notice::Tools));
        if tools
            && accepted.tools_list_changed == Some(true)
            && sink.notify_tool_list_changed().await.is_err()
        {
            return;
        }
        let prompts = batch.notices.iter().any(|notice| matches!(notice, Notice::Prompts));
        if prompts
            && accepted.prompts_list_changed == Some(true)
            && sink.notify_prompt_list_changed().await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::ids::{ScopeKey, Seq, Version};

    use super::*;

    fn event(scope: Scope, project: Option<&str>, id: &str) -> ChangeEvent {
        ChangeEvent {
            key: ScopeKey {
                tenant: None,
                scope,
                project: project.map(|name| ProjectId::new(name).unwrap()),
            },
            seq: Seq::default(),
            id: ItemId::new(id).unwrap(),
            version: Version::default(),
            op: "upsert",
        }
    }

    fn watch(project: &str, scopes: &[Scope]) -> Watch {
        Watch {
            tenant: None,
            project: Some(ProjectId::new(project).unwrap()),
            scopes: scopes.to_vec(),
            id: None,
        }
    }

    #[test]
    fn a_watch_sees_its_project_and_scopes_only() {
        let local = watch("a", &[Scope::Local]);
        assert!(local.touched_by(&event(Scope::Local, Some("a"), "1")));
        assert!(!local.touched_by(&event(Scope::Local, Some("b"), "1")));
        assert!(!local.touched_by(&event(Scope::Committed, Some("a"), "1")));
        let all = watch("a", &Scope::LOOKUP_ORDER);
        assert!(all.touched_by(&event(Scope::Global, None, "1")));
        let tenant = Watch { tenant: Some(TenantId::new("t").unwrap()), ..all };
        assert!(!tenant.touched_by(&event(Scope::Global, None, "1")));
    }

    #[test]
    fn an_item_watch_ignores_other_items() {
        let one = Watch { id: Some(ItemId::new("1").unwrap()), ..watch("a", &[Scope::Local]) };
        assert!(one.touched_by(&event(Scope::Local, Some("a"), "1")));
        assert!(!one.touched_by(&event(Scope::Local, Some("a"), "2")));
    }

    #[tokio::test]
    async fn a_watcher_that_fell_behind_is_told_that_everything_changed() {
        let changes = Changes::new();
        let mut inbox = changes.watch();
        let listener = changes.listener();
        for number in 0..=CAPACITY {
            listener(&event(Scope::Local, Some("b"), &number.to_string()));
        }
        let batch = inbox.next().await.unwrap();
        assert!(batch.overrun);
        let watches = BTreeMap::from([("kb://x".to_owned(), watch("a", &[Scope::Local]))]);
        assert_eq!(touched(&batch, watches.iter()).len(), 1);
    }

    #[tokio::test]
    async fn a_burst_becomes_one_notification() {
        let changes = Changes::new();
        let mut inbox = changes.watch();
        let listener = changes.listener();
        for number in 0..5 {
            listener(&event(Scope::Local, Some("a"), &number.to_string()));
        }
        let batch = inbox.next().await.unwrap();
        assert_eq!(batch.notices.len(), 5);
        let watches = BTreeMap::from([("kb://x".to_owned(), watch("a", &[Scope::Local]))]);
        assert_eq!(touched(&batch, watches.iter()).len(), 1);
    }
}
