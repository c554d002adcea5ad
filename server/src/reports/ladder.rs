//! The response to corruption: how bad it is, and what to do about it, step by step.
//!
//! The ladder is the operations manual's: nothing damaged; minor (fewer than 10 items, integrity
//! above 0.95), mended by rebuilding the views; moderate (above 0.8), handled scope by scope;
//! severe, where only a backup helps. One thing is better known here: views are derived from the
//! journal, so a rebuild mends views and nothing else. Damage in the journal or in blocks is
//! named item by item, and the damaged items come back only from a backup. A scope that refuses
//! writes because of the damage can be salvaged: it goes on with what is sound. One that takes
//! writes all the same (sealed segments and blocks are only read) has nothing to be salvaged.

use serde::Serialize;

/// Integrity below which a scope is taken from a backup.
const SCOPE_RESTORE: f64 = 0.9;

/// What verification said of one scope.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScopeState {
    /// The scope.
    pub(crate) scope: String,
    /// Damaged records in journal and blocks.
    pub(crate) corrupted: u64,
    /// Sound over checked.
    pub(crate) integrity: f64,
    /// Records checked.
    pub(crate) checked: u64,
    /// Disagreements between views and journal.
    pub(crate) view_issues: u64,
    /// Whether it refuses writes because of the damage.
    pub(crate) refuses: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Level {
    /// Nothing damaged.
    None,
    /// Fewer than 10 items, integrity above 0.95.
    Minor,
    /// Integrity above 0.8.
    Moderate,
    /// Anything worse.
    Severe,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    /// Derive every view of the scope again.
    Rebuild,
    /// Keep what is sound of a damaged journal, and go on.
    Salvage,
    /// Check the scope again.
    Verify,
    /// Take the scope from a backup.
    Restore,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// The scope.
    pub(crate) scope: String,
    /// What is done.
    pub(crate) action: Action,
    /// Whether `recover` does it; the rest is for a person.
    pub(crate) automatic: bool,
    /// Why, and for manual steps, what is needed.
    pub(crate) reason: String,
}

/// The state and what to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// How bad it is.
    pub(crate) level: Level,
    /// Damaged records in all scopes.
    pub(crate) corrupted: u64,
    /// Sound over checked, all scopes together; `None` when nothing was checked.
    pub(crate) integrity: Option<f64>,
    /// What to do, in order.
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// The plan for these scopes. With `salvage`, what is sound is salvaged even where a restore
    /// would be better.
    pub(crate) fn of(scopes: &[ScopeState], salvage: bool) -> Self {
        let corrupted = scopes.iter().map(|scope| scope.corrupted).sum();
        let checked: u64 = scopes.iter().map(|scope| scope.checked).sum();
        let sound: f64 = scopes.iter().map(|scope| scope.integrity * scope.checked as f64).sum();
        let integrity = (checked > 0).then(|| sound / checked as f64);
        let views = scopes.iter().any(|scope| scope.view_issues > 0);
        let level = level(corrupted, integrity.unwrap_or(1.0), views);
        let steps = scopes.iter().flat_map(|scope| steps(level, scope, salvage)).collect();
        Self { level, corrupted, integrity, steps }
    }

    /// Steps that `recover` can take.
    pub(crate) fn automatic(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.automatic)
    }

    /// Steps that need a person and a backup.
    pub(crate) fn manual(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.automatic)
    }
}

fn level(corrupted: u64, integrity: f64, views: bool) -> Level {
    if corrupted == 0 && !views {
        Level::None
    } else if corrupted < 10 && integrity > 0.95 {
        Level::Minor
    } else if integrity > 0.8 {
        Level::Moderate
    } else {
        Level::Severe
    }
}

fn steps(level: Level, scope: &ScopeState, salvage: bool) -> Vec<Step> {
    let step = |action, automatic, reason: String| Step {
        scope: scope.scope.clone(),
        action,
        automatic,
        reason,
    };
    let mut steps = Vec::new();
    if scope.corrupted == 0 && scope.view_issues == 0 {
        return steps;
    }
    let lost = !salvage
        && (level == Level::Severe
            || (level == Level::Moderate && scope.integrity < SCOPE_RESTORE));
    let mended = if scope.corrupted == 0 {
        let reason =
            format!("{} disagreements between the views and the journal", scope.view_issues);
        Some(step(Action::Rebuild, true, reason))
    } else if scope.refuses && !lost {
        let reason = "keep what is sound, set the damaged file aside, derive the views again";
        Some(step(Action::Salvage, true, reason.to_owned()))
    } else {
        None
    };
    if let Some(first) = mended {
        steps.push(first);
        steps.push(step(Action::Verify, true, "see whether the damage is gone".to_owned()));
    }
    if scope.corrupted > 0 {
        steps.push(step(
            Action::Restore,
            false,
            format!(
                "{} records are damaged in the journal or its blocks (integrity {:.4}), and \
                 nothing but a backup brings them back: restore this scope from one taken before \
                 the damage, with the server stopped and the present folder kept aside{}",
                scope.corrupted,
                scope.integrity,
                match (scope.refuses, lost) {
                    (true, true) => "; without a backup, `recover --salvage` goes on with the rest",
                    (true, false) => "",
                    (false, _) => "; until then the scope takes writes, and the rest can be read",
                }
            ),
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(name: &str, corrupted: u64, integrity: f64, view_issues: u64) -> ScopeState {
        let scope = name.to_owned();
        let refuses = corrupted > 0;
        ScopeState { scope, corrupted, integrity, checked: 1000, view_issues, refuses }
    }

    fn plan(scopes: &[ScopeState]) -> (Level, Vec<(String, Action, bool)>) {
        let plan = Plan::of(scopes, false);
        let steps =
            plan.steps.into_iter().map(|step| (step.scope, step.action, step.automatic)).collect();
        (plan.level, steps)
    }

    #[test]
    fn a_sound_store_needs_nothing() {
        assert_eq!(plan(&[scope("global", 0, 1.0, 0)]), (Level::None, vec![]));
        assert_eq!(Plan::of(&[], false).integrity, None);
    }

    #[test]
    fn damaged_views_are_rebuilt_without_a_backup() {
        let (level, steps) = plan(&[scope("global", 0, 1.0, 3), scope("local/a", 0, 1.0, 0)]);
        assert_eq!(level, Level::Minor);
        assert_eq!(
            steps,
            [
                ("global".to_owned(), Action::Rebuild, true),
                ("global".to_owned(), Action::Verify, true)
            ]
        );
    }

    #[test]
    fn a_damaged_journal_always_says_what_restore_will_need() {
        let (level, steps) = plan(&[scope("global", 2, 0.998, 0)]);
        assert_eq!(level, Level::Minor);
        assert_eq!(steps.last(), Some(&("global".to_owned(), Action::Restore, false)));
        assert!(steps.iter().any(|step| step.1 == Action::Salvage));
    }

    #[test]
    fn a_scope_that_takes_writes_has_nothing_to_be_salvaged() {
        for (corrupted, integrity) in [(2, 0.998), (400, 0.6)] {
            for asked in [false, true] {
                let damaged =
                    ScopeState { refuses: false, ..scope("global", corrupted, integrity, 1) };
                let plan = Plan::of(&[damaged], asked);
                assert_eq!(plan.automatic().count(), 0, "{plan:?}");
                assert_eq!(plan.steps[0].action, Action::Restore);
            }
        }
    }

    #[test]
    fn moderate_damage_is_handled_scope_by_scope() {
        let (level, steps) = plan(&[scope("global", 150, 0.85, 0), scope("local/a", 20, 0.98, 0)]);
        assert_eq!(level, Level::Moderate);
        assert_eq!(
            steps.iter().map(|step| (step.0.as_str(), step.1)).collect::<Vec<_>>(),
            [
                ("global", Action::Restore),
                ("local/a", Action::Salvage),
                ("local/a", Action::Verify),
                ("local/a", Action::Restore),
            ]
        );
    }

    #[test]
    fn severe_damage_is_left_as_it_is_for_a_restore() {
        let (level, steps) = plan(&[scope("global", 400, 0.6, 1)]);
        assert_eq!(level, Level::Severe);
        assert_eq!(steps, [("global".to_owned(), Action::Restore, false)]);
        let asked = Plan::of(&[scope("global", 400, 0.6, 1)], true);
        let first = asked.steps.first().map(|step| (step.action, step.automatic));
        assert_eq!(first, Some((Action::Salvage, true)), "unless somebody asks for it");
    }
}
