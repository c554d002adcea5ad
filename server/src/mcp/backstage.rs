//! What the protocol layer reaches besides the store.

use std::sync::Arc;

use crate::jobs::JobQueue;
use crate::store_status::StatusPage;

/// The jobs of the data folder, and what the server says of itself.
#[derive(Debug, Clone)]
pub struct Backstage {
    /// The jobs.
    pub jobs: Arc<JobQueue>,
    /// The answer to `GET /api/v1/status`; a server that only shares its folder has none.
    pub status: Option<Arc<StatusPage>>,
}

impl Backstage {
    /// Jobs, and no status page.
    pub const fn of(jobs: Arc<JobQueue>) -> Self {
        Self { jobs, status: None }
    }
}
