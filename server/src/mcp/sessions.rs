//! Sessions of the 2025-11-25 protocol: rmcp's local sessions, bounded in number and bound to
//! whoever opened them.
//!
//! At the limit the session unused for longest is closed to make room, of whoever holds the most;
//! its client gets 404 and begins a new one, as the protocol has it. So clients that never end
//! their sessions cost nothing but their own place.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::Stream;
use parking_lot::Mutex;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError,
};
use rmcp::transport::streamable_http_server::session::{
    ServerSseMessage, SessionId, SessionManager,
};

use crate::access::Principal;
use crate::mcp::origin::Origin;

/// Who may use a session: the subject and tenant that opened it, whatever token they show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owner {
    subject: String,
    tenant: Option<String>,
}

impl Owner {
    fn of(principal: &Principal) -> Self {
        Self {
            subject: principal.subject.clone(),
            tenant: principal.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()),
        }
    }
}

#[derive(Debug)]
struct Known {
    owner: Option<Owner>,
    used: Instant,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    local: LocalSessionManager,
    known: Mutex<HashMap<SessionId, Known>>,
    limit: usize,
}

impl Sessions {
    pub(crate) fn new(limit: usize, idle: Duration) -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(idle);
        Self { local, known: Mutex::new(HashMap::new()), limit: limit.max(1) }
    }

    /// Whether `principal` may use the session called `id`. Sessions that do not exist may be
    /// asked about by anybody: the answer will be that they do not exist.
    pub(crate) fn may_use(&self, id: &str, principal: &Principal) -> bool {
        match self.known.lock().get(id) {
            Some(known) => known.owner.as_ref().is_none_or(|owner| *owner == Owner::of(principal)),
            None => true,
        }
    }

    fn touch(&self, id: &SessionId) {
        if let Some(known) = self.known.lock().get_mut(id) {
            known.used = Instant::now();
        }
    }

    /// The session to close before one more is opened: the one unused for longest, of whoever
    /// holds the most where that is over a quarter of all, so that one caller who opens session
    /// after session closes their own.
    fn beyond_limit(&self) -> Option<SessionId> {
        let known = self.known.lock();
        if known.len() < self.limit {
            return None;
        }
        let mut held: HashMap<&Option<Owner>, usize> = HashMap::new();
        known.values().for_each(|session| *held.entry(&session.owner).or_default() += 1);
        let most = held.into_iter().max_by_key(|(_, count)| *count);
        let greedy = most.filter(|(_, count)| *count > self.limit / 4).map(|(owner, _)| owner);
        known
            .iter()
            .filter(|(_, session)| greedy.is_none_or(|owner| session.owner == *owner))
            .min_by_key(|(_, session)| session.used)
            .map(|(id, _)| id.clone())
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        if let Some(oldest) = self.beyond_limit() {
            tracing::info!(session = %oldest, "closing the session unused for longest");
            self.close_session(&oldest).await?;
        }
        let created = self.local.create_session().await?;
        let known = Known { owner: None, used: Instant::now() };
        self.known.lock().insert(created.0.clone(), known);
        Ok(created)
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        if let ClientJsonRpcMessage::Request(request) = &message {
            use rmcp::model::GetExtensions as _;
            let owner = Origin::of(request.request.extensions())
                .ok()
                .map(|origin| Owner::of(&origin.principal));
            if let Some(known) = self.known.lock().get_mut(id) {
                known.owner = owner;
            }
        }
        self.local.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.local.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.known.lock().remove(id);
        self.local.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.touch(id);
        self.local.create_stream(id, message).await
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        self.touch(id);
        self.local.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.touch(id);
        self.local.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.touch(id);
        self.local.resume(id, last_event_id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(subject: &str) -> Principal {
        Principal { subject: subject.to_owned(), ..Principal::local_owner() }
    }

    #[tokio::test]
    async fn a_session_belongs_to_whoever_opened_it() {
        let sessions = Sessions::new(8, Duration::from_secs(60));
        let (id, _transport) = sessions.create_session().await.unwrap();
        sessions.known.lock().get_mut(&id).unwrap().owner = Some(Owner::of(&named("a")));
        assert!(sessions.may_use(&id, &named("a")));
        assert!(!sessions.may_use(&id, &named("b")));
        assert!(sessions.may_use("unknown", &named("b")));
    }

    #[tokio::test]
    async fn whoever_holds_the_most_sessions_makes_room() {
        let sessions = Sessions::new(8, Duration::from_secs(60));
        let mut opened = Vec::new();
        for owner in ["a", "b", "b", "b", "c", "c", "d", "e"] {
            let (id, transport) = sessions.create_session().await.unwrap();
            sessions.known.lock().get_mut(&id).unwrap().owner = Some(Owner::of(&named(owner)));
            opened.push((id, transport));
        }
        let (_newest, _transport) = sessions.create_session().await.unwrap();
        let known = sessions.known.lock();
        assert!(known.contains_key(&opened[0].0), "unused for longest, but its owner's only one");
        assert!(!known.contains_key(&opened[1].0));
        assert_eq!(known.len(), 8);
    }

    #[tokio::test]
    async fn at_the_limit_the_session_unused_for_longest_goes() {
        let sessions = Sessions::new(2, Duration::from_secs(60));
        let (first, _one) = sessions.create_session().await.unwrap();
        let (second, _two) = sessions.create_session().await.unwrap();
        sessions.touch(&first);
        let (third, _three) = sessions.create_session().await.unwrap();
        assert!(sessions.has_session(&first).await.unwrap());
        assert!(!sessions.has_session(&second).await.unwrap());
        assert!(sessions.has_session(&third).await.unwrap());
        assert_eq!(sessions.known.lock().len(), 2);
    }
}
