//! What the Kubernetes operator renders, given to the real server: its snapshots are the contract.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use llm_memory_tests::server::server_binary;
use serde_json::Value;

use super::knock;
use super::kubernetes::Bench;

/// What is rendered for each of the golden stores.
fn rendered() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = root.join("operator/src/memory_store/build/snapshots");
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let rendered: Vec<_> = files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let yaml = text.splitn(3, "---\n").nth(2).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_saphyr::from_str(yaml).unwrap())
        })
        .collect();
    assert!(rendered.len() > 5, "{}", folder.display());
    rendered
}

fn list<'a>(document: &'a Value, pointer: &str) -> &'a Vec<Value> {
    document.pointer(pointer).unwrap().as_array().unwrap()
}

/// The variables of a container that are written down.
fn variables(container: &Value) -> Vec<(&str, &str)> {
    let all = list(container, "/env").iter();
    all.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)))
        .collect()
}

fn run(folder: &Path, arguments: &[String], environment: &[(&str, &str)]) -> Output {
    Command::new(server_binary().unwrap())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_settings_of_a_pod_are_settings_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.json");
    for (name, document) in rendered() {
        std::fs::write(&config, document["configMap"]["data"]["server.json"].as_str().unwrap())
            .unwrap();
        let container = &list(&document, "/statefulSet/spec/template/spec/containers")[0];
        let mut environment = variables(container);
        for (variable, value) in &mut environment {
            if *variable == "LLM_MEMORY_CONFIG" {
                *value = config.to_str().unwrap();
            }
        }
        environment.push(("KUBERNETES_SERVICE_HOST", "10.96.0.1"));
        let output = run(folder.path(), &["config".to_owned(), "show".to_owned()], &environment);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
    }
}

#[test]
fn the_commands_of_scheduled_pods_are_commands_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let here = [("LLM_MEMORY_DATA_DIR", data.to_str().unwrap())];
    let memory = ["memory.upsert", "--type=fact", "--scope=global", "--id=a", "--title=A"];
    let stored = run(folder.path(), &memory.map(str::to_owned), &here);
    assert_eq!(stored.status.code(), Some(0), "{stored:?}");
    let (_, document) = rendered().into_iter().find(|(name, _)| name.ends_with("oidc")).unwrap();
    let jobs = list(&document, "/cronJobs");
    assert!(jobs.len() > 3);
    for (number, job) in jobs.iter().enumerate() {
        let container = &list(job, "/spec/jobTemplate/spec/template/spec/containers")[0];
        let variables = variables(container);
        // As long as the name of an object may be.
        let key = format!("{number:0>63}");
        let arguments: Vec<String> = list(container, "/args")
            .iter()
            .map(|word| {
                let word = word.as_str().unwrap().replace("$(JOB_NAME)", &key);
                variables
                    .iter()
                    .fold(word, |word, (name, value)| word.replace(&format!("$({name})"), value))
            })
            .collect();
        assert!(!arguments.iter().any(|word| word.contains("$(")), "{arguments:?}");
        // Without a server the work is done here.
        let output = run(folder.path(), &arguments, &here);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    }
}

#[test]
fn the_identities_of_a_store_are_rules_of_the_server() {
    for (name, document) in rendered() {
        let rules = document["configMap"]["data"]["identities.json"].as_str().unwrap();
        let rules: Value = serde_json::from_str(rules).unwrap();
        if !["oidc", "agents"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let bench = Bench::new(&rules);
        let of_operator = rules[0]["serviceAccount"]["audience"].as_str().unwrap();
        for (account, audience) in
            [("llm-memory-system:llm-memory-operator", of_operator), ("team:notes-jobs", "memory")]
        {
            let token = bench.cluster.know(account, audience, 3600);
            let reply = knock(&bench.server, Some(&token));
            assert_eq!(reply.status, 200, "{name}: {account}: {reply:?}");
        }
    }
}
