//! A script of what people do to stores, drawn by a seed: the same seed gives the same steps, and
//! what is left at the end does not depend on how fast they come.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::api::DeleteParams;
use llm_memory_crds::MemoryStore;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::{Scratch, fleet};

/// What is done to a store.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It is made.
    Create,
    /// Its spec is changed by this merge patch.
    Change(Value),
    /// It is deleted.
    Delete,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Number of the store.
    pub store: usize,
    /// What is done to it.
    pub action: Action,
}

/// `steps` steps over `stores` stores.
pub fn script(seed: u64, stores: usize, steps: usize) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut present: BTreeMap<usize, bool> = (0..stores).map(|store| (store, false)).collect();
    let mut script = Vec::new();
    for _ in 0..steps {
        let store = random.random_range(0..stores.max(1));
        let there = present.get(&store).copied().unwrap_or_default();
        let action = match there {
            false => Action::Create,
            true if random.random_bool(0.12) => Action::Delete,
            true => Action::Change(change(&mut random)),
        };
        present.insert(store, action != Action::Delete);
        script.push(Step { store, action });
    }
    script
}

/// A change of one subject. Sizes only grow and images need a server that answers, so that what is
/// left would depend on when the operator looked: neither is changed here.
fn change(random: &mut StdRng) -> Value {
    let minute = random.random_range(0..60);
    match random.random_range(0..8) {
        0 => json!({"settings": {"limits.maxItemKb": random.random_range(64..4096).to_string()}}),
        1 => {
            let mode = ["Disabled", "Preferred", "Required"].choose(random);
            json!({"gpu": {"mode": mode}})
        }
        2 => json!({"maintenance": {"verify": {"schedule": format!("{minute} 3 * * 0")}}}),
        3 => json!({"maintenance": {"daily": {"suspend": random.random_bool(0.5)}}}),
        4 => json!({"replicas": random.random_range(0..=1)}),
        5 => {
            let names = ["ada", "bob", "cyd"].into_iter().filter(|_| random.random_bool(0.5));
            let tokens: Vec<Value> = names.map(|name| json!({"name": name})).collect();
            json!({"mcp": {"auth": {"tokens": tokens}}})
        }
        6 => json!({"network": {"enabled": random.random_bool(0.5)}}),
        _ => {
            let policy = ["Retain", "Delete"].choose(random);
            json!({"reclaimPolicy": policy})
        }
    }
}

/// Name of the store with this number.
pub fn name(store: usize) -> String {
    format!("memory-{store}")
}

/// A new store. Schedules left out follow from the namespace, in which two runs differ.
fn spec(run: &str) -> Value {
    let mut spec = fleet::spec(run);
    let routines = ["compaction", "verify", "daily", "weekly", "monthly", "quarterly"];
    let all = routines.map(|routine| (routine.to_owned(), json!({"schedule": "17 4 * * *"})));
    if let Value::Object(spec) = &mut spec {
        spec.insert("maintenance".to_owned(), Value::Object(all.into_iter().collect()));
    }
    spec
}

impl Step {
    /// Does it, in one of `namespaces`, on the nodes of `run`.
    pub async fn take(&self, namespaces: &[Scratch], run: &str) -> Result<()> {
        let index = self.store.checked_rem(namespaces.len()).unwrap_or_default();
        let Some(scratch) = namespaces.get(index) else { return Ok(()) };
        let name = name(self.store);
        match &self.action {
            Action::Create => drop(scratch.create(&name, spec(run)).await?),
            Action::Change(patch) => drop(scratch.change(&name, patch.clone()).await?),
            Action::Delete => {
                let api = scratch.api::<MemoryStore>();
                api.delete(&name, &DeleteParams::background()).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_steps_and_no_step_is_out_of_place() {
        let steps = script(7, 30, 400);
        assert_eq!(steps, script(7, 30, 400));
        assert_ne!(steps, script(8, 30, 400));
        let mut there = std::collections::BTreeSet::new();
        for step in &steps {
            let fits = match step.action {
                Action::Create => there.insert(step.store),
                Action::Change(_) => there.contains(&step.store),
                Action::Delete => there.remove(&step.store),
            };
            assert!(fits, "{step:?}");
        }
        assert!(steps.iter().any(|step| step.action == Action::Delete) && !there.is_empty());
    }
}
