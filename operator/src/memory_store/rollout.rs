//! Stage 3, no client: which image the pod template is to name, and whether the pod that runs may
//! be replaced now. A change of image goes through steps that the status remembers, so that
//! another operator process carries on where this one was stopped:
//!
//! ```text
//! Verifying -> RollingOut -> Complete
//!     |            `-> RollingBack -> RolledBack      the new pod did not become ready in time
//!     `-> Refused                                     verification found damage
//! ```
//!
//! `RolledBack` and `Refused` stand until the spec names another image, or a person asks again
//! with a restart.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use llm_memory_crds::memory_store::{UpdatePhase, UpdateSpec, UpdateStatus, UpdateStrategy};

/// What is known when a decision is made.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// `spec.update`.
    pub spec: &'a UpdateSpec,
    /// Image that the spec asks for.
    pub wanted: &'a str,
    /// Image that the pod template names; none before the first.
    pub running: Option<&'a str>,
    /// Whether there is to be a pod at all.
    pub hibernated: bool,
    /// A person's wish for a restart that was not acted on yet.
    pub restart_requested: bool,
    /// The pod.
    pub pod: PodState,
    /// When it was made.
    pub pod_made: Option<Timestamp>,
    /// The pod has not been ready for so long that it will not verify anything soon.
    pub down: bool,
    /// The update that the status remembers.
    pub update: Option<&'a UpdateStatus>,
    /// The verification that was asked for, when there is one.
    pub verification: Verification,
    /// The time.
    pub now: Timestamp,
}

/// The pod, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// There is none.
    Absent,
    /// It is going, however long that takes: a node that died never says that it has gone.
    Ending,
    /// It was made from the template of today.
    Current {
        /// It is ready and answered a handshake.
        ready: bool,
    },
    /// It was made from an earlier template.
    Outdated {
        /// It is ready and answered a handshake.
        ready: bool,
    },
    /// The StatefulSet's controller has not said yet which template is today's.
    Unknown {
        /// It is ready and answered a handshake.
        ready: bool,
    },
}

impl PodState {
    const fn ready(self) -> bool {
        match self {
            Self::Absent | Self::Ending => false,
            Self::Current { ready } | Self::Outdated { ready } | Self::Unknown { ready } => ready,
        }
    }
}

/// How the verification before an update went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verification {
    /// Not asked for, or the server does not answer.
    #[default]
    None,
    /// Under way.
    Running,
    /// All intact.
    Intact,
    /// Damage, in the server's words.
    Damaged(String),
    /// It could not be carried out.
    Failed(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Image for the pod template.
    pub image: String,
    /// What the status is to remember.
    pub update: Option<UpdateStatus>,
    /// Ask the server to verify itself.
    pub verify: bool,
    /// Replace the pod when it is outdated, or in any case when a person asked for it.
    pub replace: Replace,
    /// A change waits for a person.
    pub pending: bool,
}

/// Whether the pod may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// No.
    Never,
    /// When it was made from an earlier template.
    Outdated,
    /// In any case.
    Always,
}

/// Decides.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let Some(running) = situation.running else {
        // The first pod has nothing to verify and nothing to go back to.
        return Plan {
            image: situation.wanted.to_owned(),
            update: None,
            verify: false,
            replace: Replace::Never,
            pending: false,
        };
    };
    let automatic = situation.spec.strategy == UpdateStrategy::Automatic;
    let allowed = automatic || situation.restart_requested;
    let replace = match (situation.restart_requested, automatic) {
        (true, _) => Replace::Always,
        (false, true) => Replace::Outdated,
        (false, false) => Replace::Never,
    };
    let stay = |update: Option<UpdateStatus>, pending: bool| Plan {
        image: running.to_owned(),
        update,
        verify: false,
        replace,
        pending,
    };
    let under_way = situation.update.filter(|update| {
        matches!(
            update.phase,
            UpdatePhase::Verifying | UpdatePhase::RollingOut | UpdatePhase::RollingBack
        )
    });
    if let Some(update) = under_way {
        let back = update.phase == UpdatePhase::RollingBack && update.from == situation.wanted;
        if update.to == situation.wanted || back {
            return carry_on(situation, update, running);
        }
    }
    if situation.wanted == running {
        let outdated = matches!(situation.pod, PodState::Outdated { .. });
        // An update to an image that is no longer asked for is over, however it ended.
        let update = situation.update.filter(|update| update.to == situation.wanted).cloned();
        return stay(update, outdated && !allowed);
    }
    let blocked = situation.update.is_some_and(|update| {
        matches!(update.phase, UpdatePhase::RolledBack | UpdatePhase::Refused)
            && update.to == situation.wanted
    });
    if (blocked && !situation.restart_requested) || !allowed {
        return stay(situation.update.cloned(), !blocked);
    }
    // An image that is being rolled out, or taken back, has not served yet: what served before it
    // is what to go back to.
    let served = under_way.filter(|update| update.phase != UpdatePhase::Verifying);
    let update = UpdateStatus {
        phase: UpdatePhase::Verifying,
        from: served.map_or(running, |update| update.from.as_str()).to_owned(),
        to: situation.wanted.to_owned(),
        since: Some(Time(situation.now)),
        verify_job: None,
        message: None,
    };
    // A store that does not serve cannot verify itself; a new image may be what mends it. One that
    // is silent for a moment is waited for.
    if situation.hibernated || !situation.spec.verify_before || situation.down {
        return roll_out(situation, &update);
    }
    let verify = situation.pod.ready();
    Plan { verify, replace: Replace::Never, ..stay(Some(update), false) }
}

fn carry_on(situation: &Situation<'_>, update: &UpdateStatus, running: &str) -> Plan {
    let since = update.since.as_ref().map_or(situation.now, |time| time.0);
    let allowed = SignedDuration::from_secs(i64::from(situation.spec.ready_timeout_seconds));
    let late_since = |since| situation.now.duration_since(since) >= allowed;
    let late = late_since(since);
    let waiting = |replace| Plan {
        image: running.to_owned(),
        update: Some(update.clone()),
        verify: false,
        replace,
        pending: false,
    };
    match update.phase {
        UpdatePhase::Verifying => match &situation.verification {
            Verification::Intact => roll_out(situation, update),
            Verification::Damaged(what) => Plan {
                update: Some(ended(situation, update, UpdatePhase::Refused, Some(what.clone()))),
                ..waiting(Replace::Never)
            },
            Verification::Failed(why) => Plan {
                update: Some(ended(
                    situation,
                    update,
                    UpdatePhase::Refused,
                    Some(format!("the verification before the update failed: {why}")),
                )),
                ..waiting(Replace::Never)
            },
            Verification::Running => waiting(Replace::Never),
            Verification::None if situation.hibernated => roll_out(situation, update),
            // It was taken; a server that does not answer for a moment goes on with it afterwards.
            // One that it has brought down for good may be mended by the new image.
            Verification::None if update.verify_job.is_some() && !(late && situation.down) => {
                waiting(Replace::Never)
            }
            Verification::None if situation.down => roll_out(situation, update),
            Verification::None if late && !situation.pod.ready() => roll_out(situation, update),
            Verification::None if late => Plan {
                update: Some(ended(
                    situation,
                    update,
                    UpdatePhase::Refused,
                    Some("the server did not take the verification before the update".to_owned()),
                )),
                ..waiting(Replace::Never)
            },
            Verification::None => Plan { verify: situation.pod.ready(), ..waiting(Replace::Never) },
        },
        UpdatePhase::RollingOut => {
            let image = update.to.clone();
            let waits = situation.hibernated || situation.pod == PodState::Ending;
            if waits || update.since.is_none() {
                // It is tried when the store wakes or the former pod has gone, and has its time
                // from then on.
                let since = (!waits).then_some(Time(situation.now));
                let update = UpdateStatus { since, ..update.clone() };
                return Plan { image, update: Some(update), ..waiting(Replace::Outdated) };
            }
            if running == update.to && situation.pod == (PodState::Current { ready: true }) {
                let update = ended(situation, update, UpdatePhase::Complete, None);
                return Plan { image, update: Some(update), ..waiting(Replace::Outdated) };
            }
            // An image was not tried while the template does not name it, or its pod was not made.
            let made = situation.pod_made.map_or(since, |made| made.max(since));
            let tried = match situation.pod {
                PodState::Current { .. } => late_since(made),
                PodState::Absent => late,
                PodState::Ending | PodState::Outdated { .. } | PodState::Unknown { .. } => false,
            };
            if tried && running == update.to {
                let message = format!(
                    "the pod with {} was not ready after {} s",
                    update.to, situation.spec.ready_timeout_seconds
                );
                let back = ended(situation, update, UpdatePhase::RollingBack, Some(message));
                return Plan {
                    image: update.from.clone(),
                    update: Some(back),
                    ..waiting(Replace::Outdated)
                };
            }
            Plan { image, ..waiting(Replace::Outdated) }
        }
        UpdatePhase::RollingBack => {
            let image = update.from.clone();
            let back = situation.hibernated || situation.pod == (PodState::Current { ready: true });
            let update = if back && running == update.from {
                let message = update.message.clone();
                ended(situation, update, UpdatePhase::RolledBack, message)
            } else {
                update.clone()
            };
            Plan { image, update: Some(update), ..waiting(Replace::Outdated) }
        }
        UpdatePhase::Complete | UpdatePhase::RolledBack | UpdatePhase::Refused => {
            waiting(Replace::Outdated)
        }
    }
}

fn roll_out(situation: &Situation<'_>, update: &UpdateStatus) -> Plan {
    Plan {
        image: update.to.clone(),
        update: Some(ended(situation, update, UpdatePhase::RollingOut, None)),
        verify: false,
        replace: Replace::Outdated,
        pending: false,
    }
}

fn ended(
    situation: &Situation<'_>,
    update: &UpdateStatus,
    phase: UpdatePhase,
    message: Option<String>,
) -> UpdateStatus {
    UpdateStatus { phase, since: Some(Time(situation.now)), message, ..update.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "2026-01-01T00:00:00Z";

    fn situation<'a>(spec: &'a UpdateSpec, update: Option<&'a UpdateStatus>) -> Situation<'a> {
        Situation {
            spec,
            wanted: "server:2",
            running: Some("server:1"),
            hibernated: false,
            restart_requested: false,
            pod: PodState::Current { ready: true },
            pod_made: None,
            down: false,
            update,
            verification: Verification::None,
            now: START.parse().unwrap(),
        }
    }

    fn rolling_out() -> UpdateStatus {
        UpdateStatus {
            phase: UpdatePhase::RollingOut,
            from: "server:1".to_owned(),
            to: "server:2".to_owned(),
            since: Some(Time(START.parse().unwrap())),
            ..UpdateStatus::default()
        }
    }

    fn phase(plan: &Plan) -> Option<UpdatePhase> {
        plan.update.as_ref().map(|update| update.phase)
    }

    #[test]
    fn an_update_verifies_rolls_out_and_completes() {
        let spec = UpdateSpec::default();
        let first = plan(&situation(&spec, None));
        assert_eq!((phase(&first), first.verify), (Some(UpdatePhase::Verifying), true));
        assert_eq!((first.image.as_str(), first.replace), ("server:1", Replace::Never));
        let intact = Situation {
            verification: Verification::Intact,
            ..situation(&spec, first.update.as_ref())
        };
        let second = plan(&intact);
        assert_eq!(phase(&second), Some(UpdatePhase::RollingOut));
        assert_eq!((second.image.as_str(), second.replace), ("server:2", Replace::Outdated));
        let starting = Situation {
            running: Some("server:2"),
            pod: PodState::Outdated { ready: true },
            ..situation(&spec, second.update.as_ref())
        };
        assert_eq!(phase(&plan(&starting)), Some(UpdatePhase::RollingOut));
        let ready = Situation { pod: PodState::Current { ready: true }, ..starting };
        assert_eq!(phase(&plan(&ready)), Some(UpdatePhase::Complete));
    }

    #[test]
    fn an_image_that_does_not_start_is_taken_back_and_not_tried_again() {
        let spec = UpdateSpec { ready_timeout_seconds: 60, ..UpdateSpec::default() };
        let rolling = rolling_out();
        let broken = Situation {
            running: Some("server:2"),
            pod: PodState::Current { ready: false },
            now: "2026-01-01T00:00:59Z".parse().unwrap(),
            ..situation(&spec, Some(&rolling))
        };
        assert_eq!(plan(&broken).image, "server:2");
        let late = Situation { now: "2026-01-01T00:01:00Z".parse().unwrap(), ..broken };
        let back = plan(&late);
        assert_eq!(
            (phase(&back), back.image.as_str()),
            (Some(UpdatePhase::RollingBack), "server:1")
        );
        let restored = Situation {
            pod: PodState::Current { ready: true },
            ..situation(&spec, back.update.as_ref())
        };
        let over = plan(&restored);
        assert_eq!(phase(&over), Some(UpdatePhase::RolledBack));
        assert!(over.update.as_ref().unwrap().message.as_ref().unwrap().contains("60 s"));
        let later = plan(&situation(&spec, over.update.as_ref()));
        assert_eq!((later.image.as_str(), later.pending), ("server:1", false));
        let another = Situation { wanted: "server:3", ..situation(&spec, over.update.as_ref()) };
        assert_eq!(phase(&plan(&another)), Some(UpdatePhase::Verifying));
    }

    #[test]
    fn another_image_ends_a_roll_back_that_does_not_work_and_keeps_what_served() {
        let spec = UpdateSpec::default();
        let stuck = UpdateStatus {
            phase: UpdatePhase::RollingBack,
            from: "server:1".to_owned(),
            to: "server:2".to_owned(),
            since: Some(Time(START.parse().unwrap())),
            ..UpdateStatus::default()
        };
        let repaired = Situation {
            wanted: "server:3",
            pod: PodState::Current { ready: false },
            down: true,
            ..situation(&spec, Some(&stuck))
        };
        let next = plan(&repaired);
        assert_eq!(
            (phase(&next), next.image.as_str()),
            (Some(UpdatePhase::RollingOut), "server:3")
        );
        let out = UpdateStatus { phase: UpdatePhase::RollingOut, ..stuck.clone() };
        let changed = Situation { running: Some("server:2"), update: Some(&out), ..repaired };
        assert_eq!(plan(&changed).update.unwrap().from, "server:1");
    }

    #[test]
    fn what_became_of_an_image_is_forgotten_with_it() {
        let spec = UpdateSpec::default();
        let over = UpdateStatus {
            phase: UpdatePhase::RolledBack,
            from: "server:1".to_owned(),
            to: "server:2".to_owned(),
            ..UpdateStatus::default()
        };
        let corrected = Situation { wanted: "server:1", ..situation(&spec, Some(&over)) };
        assert_eq!(plan(&corrected).update, None);
    }

    #[test]
    fn a_verification_under_way_is_waited_for_and_one_that_nobody_takes_is_not() {
        let spec = UpdateSpec { ready_timeout_seconds: 60, ..UpdateSpec::default() };
        let untaken = plan(&situation(&spec, None)).update.unwrap();
        let taken = UpdateStatus { verify_job: Some("job".to_owned()), ..untaken.clone() };
        let after_an_hour = |update| {
            let now = "2026-01-01T01:00:00Z".parse().unwrap();
            plan(&Situation { now, ..situation(&spec, Some(update)) })
        };
        assert_eq!(phase(&after_an_hour(&untaken)), Some(UpdatePhase::Refused));
        let waiting = after_an_hour(&taken);
        assert_eq!((phase(&waiting), waiting.verify), (Some(UpdatePhase::Verifying), false));
    }

    #[test]
    fn a_verification_that_can_never_end_does_not_hold_the_update_up() {
        let spec = UpdateSpec { ready_timeout_seconds: 60, ..UpdateSpec::default() };
        let untaken = plan(&situation(&spec, None)).update.unwrap();
        let taken = UpdateStatus { verify_job: Some("job".to_owned()), ..untaken };
        let asleep =
            Situation { hibernated: true, pod: PodState::Absent, ..situation(&spec, Some(&taken)) };
        assert_eq!(phase(&plan(&asleep)), Some(UpdatePhase::RollingOut));
        let later = "2026-01-01T00:01:00Z".parse().unwrap();
        let brought_down = Situation {
            pod: PodState::Current { ready: false },
            down: true,
            now: later,
            ..situation(&spec, Some(&taken))
        };
        assert_eq!(phase(&plan(&brought_down)), Some(UpdatePhase::RollingOut));
        let soon = Situation { now: START.parse().unwrap(), ..brought_down };
        assert_eq!(phase(&plan(&soon)), Some(UpdatePhase::Verifying));
    }

    #[test]
    fn an_image_that_was_never_tried_is_not_taken_back() {
        let spec = UpdateSpec { ready_timeout_seconds: 60, ..UpdateSpec::default() };
        let out = rolling_out();
        let late = Situation {
            now: "2026-01-01T00:10:00Z".parse().unwrap(),
            pod: PodState::Current { ready: false },
            ..situation(&spec, Some(&out))
        };
        let refused = Situation { running: Some("server:1"), ..late.clone() };
        assert_eq!(phase(&plan(&refused)), Some(UpdatePhase::RollingOut));
        let tried = Situation { running: Some("server:2"), ..late };
        assert_eq!(phase(&plan(&tried)), Some(UpdatePhase::RollingBack));
    }

    #[test]
    fn an_image_has_its_time_from_when_its_pod_is_made() {
        let spec = UpdateSpec { ready_timeout_seconds: 60, ..UpdateSpec::default() };
        let out = rolling_out();
        let after = |pod, made: &str| {
            plan(&Situation {
                running: Some("server:2"),
                pod,
                pod_made: Some(made.parse().unwrap()),
                now: "2026-01-01T00:10:00Z".parse().unwrap(),
                ..situation(&spec, Some(&out))
            })
        };
        let ready = false;
        for pod in [PodState::Outdated { ready }, PodState::Unknown { ready }] {
            let waiting = after(pod, "2025-12-01T00:00:00Z");
            assert_eq!(phase(&waiting), Some(UpdatePhase::RollingOut), "{pod:?} is the former pod");
            assert_eq!(waiting.image, "server:2");
        }
        let young = after(PodState::Current { ready }, "2026-01-01T00:09:30Z");
        assert_eq!(phase(&young), Some(UpdatePhase::RollingOut));
        let old = after(PodState::Current { ready }, "2026-01-01T00:09:00Z");
        assert_eq!(phase(&old), Some(UpdatePhase::RollingBack));
    }

    #[test]
    fn an_image_of_a_store_that_sleeps_is_tried_when_it_wakes() {
        let spec = UpdateSpec { ready_timeout_seconds: 60, ..UpdateSpec::default() };
        let out = rolling_out();
        let asleep = Situation {
            running: Some("server:2"),
            hibernated: true,
            pod: PodState::Absent,
            now: "2026-01-01T01:00:00Z".parse().unwrap(),
            ..situation(&spec, Some(&out))
        };
        let sleeping = plan(&asleep).update.unwrap();
        assert_eq!((sleeping.phase, &sleeping.since), (UpdatePhase::RollingOut, &None));
        assert_eq!(
            plan(&Situation { update: Some(&sleeping), ..asleep.clone() }).update.as_ref(),
            Some(&sleeping),
            "nothing is written while it sleeps"
        );

        let awake = Situation { hibernated: false, update: Some(&sleeping), ..asleep };
        let woken = plan(&awake).update.unwrap();
        assert_eq!((woken.phase, &woken.since), (UpdatePhase::RollingOut, &Some(Time(awake.now))));
        let late = Situation {
            pod: PodState::Current { ready: false },
            now: "2026-01-01T01:01:00Z".parse().unwrap(),
            update: Some(&woken),
            ..awake
        };
        assert_eq!(phase(&plan(&late)), Some(UpdatePhase::RollingBack));
    }

    #[test]
    fn an_image_has_its_time_from_when_the_former_pod_has_gone() {
        let spec = UpdateSpec { ready_timeout_seconds: 10, ..UpdateSpec::default() };
        let out = rolling_out();
        let ending = Situation {
            running: Some("server:2"),
            pod: PodState::Ending,
            now: "2026-01-01T00:01:00Z".parse().unwrap(),
            ..situation(&spec, Some(&out))
        };
        let drained = plan(&ending).update.unwrap();
        assert_eq!((drained.phase, &drained.since), (UpdatePhase::RollingOut, &None));
        let hour = "2026-01-01T01:00:00Z".parse().unwrap();
        let dead = Situation { update: Some(&drained), now: hour, ..ending };
        assert_eq!(plan(&dead).update.as_ref(), Some(&drained), "nothing is written until then");
        let gone = Situation { pod: PodState::Absent, ..dead };
        let begun = plan(&gone).update.unwrap();
        assert_eq!((begun.phase, &begun.since), (UpdatePhase::RollingOut, &Some(Time(hour))));
        let late = Situation {
            update: Some(&begun),
            now: "2026-01-01T01:00:10Z".parse().unwrap(),
            ..gone
        };
        assert_eq!(phase(&plan(&late)), Some(UpdatePhase::RollingBack), "no pod can be made");
    }

    #[test]
    fn damage_refuses_the_update() {
        let spec = UpdateSpec::default();
        let first = plan(&situation(&spec, None));
        let damaged = Situation {
            verification: Verification::Damaged("item 7".to_owned()),
            ..situation(&spec, first.update.as_ref())
        };
        let refused = plan(&damaged);
        assert_eq!(
            (phase(&refused), refused.image.as_str()),
            (Some(UpdatePhase::Refused), "server:1")
        );
    }

    #[test]
    fn manual_waits_for_a_person() {
        let spec = UpdateSpec { strategy: UpdateStrategy::Manual, ..UpdateSpec::default() };
        let waiting = plan(&situation(&spec, None));
        assert!(waiting.pending && waiting.update.is_none());
        assert_eq!((waiting.image.as_str(), waiting.replace), ("server:1", Replace::Never));
        let asked = Situation { restart_requested: true, ..situation(&spec, None) };
        assert_eq!(phase(&plan(&asked)), Some(UpdatePhase::Verifying));
    }

    #[test]
    fn a_store_that_is_down_is_updated_without_verification() {
        let spec = UpdateSpec::default();
        let silent =
            Situation { pod: PodState::Current { ready: false }, ..situation(&spec, None) };
        let waiting = plan(&silent);
        assert_eq!((phase(&waiting), waiting.verify), (Some(UpdatePhase::Verifying), false));
        let down = Situation { down: true, ..silent };
        assert_eq!(phase(&plan(&down)), Some(UpdatePhase::RollingOut));
        let asleep =
            Situation { pod: PodState::Absent, hibernated: true, ..situation(&spec, None) };
        assert_eq!(plan(&asleep).image, "server:2");
    }
}
