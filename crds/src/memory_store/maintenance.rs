//! Scheduled care of a store.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Scheduled care: one CronJob each. Each field left out has the default calendar; a routine with
/// `suspend: true` does not run. A schedule left out is spread over the hour by the store's name,
/// so that many stores do not start at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// Drops superseded bodies from the journal. Daily when left out.
    #[serde(default)]
    pub compaction: Routine,
    /// Recomputes every hash. Weekly when left out.
    #[serde(default)]
    pub verify: Routine,
    /// Clean-up, compaction when the journal is large, expiry.
    #[serde(default)]
    pub daily: Routine,
    /// The daily routine and verification.
    #[serde(default)]
    pub weekly: Routine,
    /// The weekly routine, full compaction and a report.
    #[serde(default)]
    pub monthly: Routine,
    /// The monthly routine and full statistics.
    #[serde(default)]
    pub quarterly: Routine,
}

impl MaintenanceSpec {
    /// Each routine with its settings.
    pub fn routines(&self) -> [(RoutineKind, &Routine); 6] {
        [
            (RoutineKind::Compaction, &self.compaction),
            (RoutineKind::Verify, &self.verify),
            (RoutineKind::Daily, &self.daily),
            (RoutineKind::Weekly, &self.weekly),
            (RoutineKind::Monthly, &self.monthly),
            (RoutineKind::Quarterly, &self.quarterly),
        ]
    }
}

/// A kind of scheduled care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoutineKind {
    /// Compaction alone.
    Compaction,
    /// Verification alone.
    Verify,
    /// The daily routine.
    Daily,
    /// The weekly routine.
    Weekly,
    /// The monthly routine.
    Monthly,
    /// The quarterly routine.
    Quarterly,
}

impl RoutineKind {
    /// Its name in object names and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compaction => "compaction",
            Self::Verify => "verify",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Quarterly => "quarterly",
        }
    }
}

/// When and how a routine runs; the words are those of CronJob.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Routine {
    /// Five fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^((\\\\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?(,(\\\\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?)*)( (\\\\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?(,(\\\\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?)*){4}$')")
        .message("schedule must have exactly five fields (minute hour day-of-month month day-of-week), such as '30 2 * * *'; seconds and macros like @daily are not accepted"))]
    pub schedule: Option<String>,
    /// Time zone of the schedule, such as Europe/Berlin. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self != 'Local' && self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$')")
            .message("timeZone must be a name of the IANA time zone database such as Europe/Berlin or Etc/UTC"),
        validation = Rule::new("timestamp('2024-01-01T00:00:00Z').getFullYear(self) > 0")
            .message("timeZone must be a name of the IANA time zone database such as Europe/Berlin or Etc/UTC"),
    )]
    pub time_zone: Option<String>,
    /// Do not run.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds for which a run that missed its time may still start. Left out: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 604_800))]
    pub starting_deadline_seconds: Option<i64>,
    /// Seconds after which a run is given up.
    #[serde(default = "six_hours")]
    #[schemars(range(min = 30, max = 604_800))]
    pub active_deadline_seconds: i64,
    /// Runs that ended well and are kept.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_jobs_history_limit: i32,
    /// Runs that ended badly and are kept.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_jobs_history_limit: i32,
    /// Compute resources of the pod that follows the run; the work itself is done by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

impl Default for Routine {
    fn default() -> Self {
        Self {
            schedule: None,
            time_zone: None,
            suspend: false,
            starting_deadline_seconds: None,
            active_deadline_seconds: six_hours(),
            successful_jobs_history_limit: three(),
            failed_jobs_history_limit: three(),
            resources: None,
        }
    }
}

const fn six_hours() -> i64 {
    21_600
}

const fn three() -> i32 {
    3
}
