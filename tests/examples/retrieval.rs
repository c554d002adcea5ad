//! How well words find the turns of a conversation that answer a question: LoCoMo, by the
//! protocol of its README. Compares our search with SQLite FTS5 and raw tantivy.
//!
//! ```text
//! cargo run --release -p llm-memory-tests --example retrieval -- [FILE] [--set KEY=VALUE]...
//! ```
//!
//! FILE is `../shared/data/locomo-dev.json` when left out; without it the program says so and
//! ends well. One item a turn; a question is searched within its conversation; a hit is a gold
//! turn among the first k. `--set` changes a setting of the scope, such as `search.bm25.k1=0.9`.
//! The first row is the product: what `Engine::query` finds of what `Engine::upsert` wrote.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::api::{Caller, Detail, HitBody, QueryRequest, UpsertRequest};
use llm_memory_engine::config::ScopeConfig;
use llm_memory_engine::ids::{ProjectId, Scope, ScopeSelector};
use llm_memory_engine::{Engine, Options};
use serde_json::{Value, json};
use tantivy::collector::TopDocs;
use tantivy::query::QueryParser;
use tantivy::schema::{
    IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions as FieldOptions,
    Value as _,
};
use tantivy::{Index, TantivyDocument, doc};

/// Hits asked of every system.
const DEPTH: usize = 10;

struct Conversation {
    turns: Vec<(String, String)>,
    questions: Vec<(String, HashSet<String>)>,
}

fn main() -> Result<()> {
    let mut file = PathBuf::from("../shared/data/locomo-dev.json");
    let mut config = ScopeConfig::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--set" {
            config = set(&config, &arguments.next().context("--set needs KEY=VALUE")?)?;
        } else {
            file = PathBuf::from(argument);
        }
    }
    if !OsDisk.exists(&file)? {
        say(&format!(
            "{} is not there: LoCoMo is for evaluation only and not part of this repository; \
             pass its path",
            file.display()
        ));
        return Ok(());
    }
    let conversations = load(&file)?;
    let turns: usize = conversations.iter().map(|one| one.turns.len()).sum();
    let questions: usize = conversations.iter().map(|one| one.questions.len()).sum();
    say(&format!("{} conversations, {turns} turns, {questions} questions", conversations.len()));
    say("system              any@5  any@10  share@5 share@10    MRR");
    report("llm-memory", &conversations, |one| ours(one, &config))?;
    report("SQLite FTS5", &conversations, |one| fts5(one, "unicode61"))?;
    report("FTS5 porter", &conversations, |one| fts5(one, "porter unicode61"))?;
    report("tantivy default", &conversations, |one| raw_tantivy(one, "default"))?;
    report("tantivy en_stem", &conversations, |one| raw_tantivy(one, "en_stem"))?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
fn say(line: &str) {
    println!("{line}");
}

fn set(config: &ScopeConfig, assignment: &str) -> Result<ScopeConfig> {
    let (path, value) = assignment.split_once('=').context("--set needs KEY=VALUE")?;
    let mut whole = config.to_json();
    let place = whole.pointer_mut(&format!("/{}", path.replace('.', "/")));
    *place.with_context(|| format!("no setting {path}"))? = serde_json::from_str(value)?;
    Ok(ScopeConfig::from_json(&whole)?)
}

fn load(file: &Path) -> Result<Vec<Conversation>> {
    let data: Value = serde_json::from_slice(&OsDisk.read(file)?)?;
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let list = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut conversations = Vec::new();
    for sample in data.as_array().context("expected a list of conversations")? {
        let turns = list(sample, "turns")
            .iter()
            .map(|turn| {
                let caption = text(turn, "caption");
                let caption = if caption.is_empty() { caption } else { format!(" [{caption}]") };
                let said = format!(
                    "{} ({}): {}{caption}",
                    text(turn, "speaker"),
                    text(turn, "time"),
                    text(turn, "text")
                );
                (text(turn, "id"), said)
            })
            .collect();
        let questions = list(sample, "qa")
            .iter()
            .filter(|question| question.get("category").and_then(Value::as_u64) != Some(5))
            .map(|question| {
                let evidence = list(question, "evidence");
                let gold = evidence.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                (text(question, "question"), gold)
            })
            .filter(|(_, gold): &(String, HashSet<String>)| !gold.is_empty())
            .collect();
        conversations.push(Conversation { turns, questions });
    }
    Ok(conversations)
}

fn report(
    name: &str,
    conversations: &[Conversation],
    search: impl Fn(&Conversation) -> Result<Vec<Vec<String>>>,
) -> Result<()> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    let mut asked = 0.0;
    for conversation in conversations {
        let answers = search(conversation)?;
        for ((_, gold), hits) in conversation.questions.iter().zip(answers) {
            asked += 1.0;
            for (any, share, k) in [("any5", "share5", 5), ("any10", "share10", 10)] {
                let found = hits.iter().take(k).filter(|id| gold.contains(*id)).count();
                *sums.entry(any).or_default() += f64::from(u8::from(found > 0));
                *sums.entry(share).or_default() += found as f64 / gold.len() as f64;
            }
            let first = hits.iter().position(|id| gold.contains(id));
            *sums.entry("mrr").or_default() += first.map_or(0.0, |at| 1.0 / (at as f64 + 1.0));
        }
    }
    let mean = |key: &str| sums.get(key).copied().unwrap_or(0.0) / asked;
    say(&format!(
        "{name:<18} {:>6.3}  {:>6.3}   {:>6.3}   {:>6.3}  {:>6.3}",
        mean("any5"),
        mean("any10"),
        mean("share5"),
        mean("share10"),
        mean("mrr")
    ));
    Ok(())
}

fn ours(conversation: &Conversation, config: &ScopeConfig) -> Result<Vec<Vec<String>>> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::open(Arc::new(OsDisk), dir.path(), Options::default())?;
    let caller = Caller::unrestricted("retrieval", Some(ProjectId::new("locomo")?));
    engine.set_scope_config(&caller, Scope::Local, config)?;
    for (id, text) in &conversation.turns {
        let request = json!({"id": id, "type": "note", "scope": "local", "text": text});
        engine.upsert(&caller, serde_json::from_value::<UpsertRequest>(request)?)?;
    }
    let mut answers = Vec::new();
    for (question, _) in &conversation.questions {
        let request = QueryRequest {
            q: question.clone(),
            scope: ScopeSelector::Local,
            k: Some(DEPTH),
            detail: Detail::Summary,
            ..QueryRequest::default()
        };
        let hits = engine.query(&caller, request)?.items;
        answers.push(hits.into_iter().map(|hit| id_of(hit.body)).collect());
    }
    engine.close()?;
    Ok(answers)
}

fn id_of(body: HitBody) -> String {
    match body {
        HitBody::Full(item) => item.id.to_string(),
        HitBody::Snippet { summary, .. } | HitBody::Summary(summary) => summary.id.to_string(),
    }
}

/// The words of a question, for engines whose query language would trip over punctuation.
fn words(question: &str) -> Vec<String> {
    question
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn fts5(conversation: &Conversation, tokenizer: &str) -> Result<Vec<Vec<String>>> {
    let database = rusqlite::Connection::open_in_memory()?;
    database.execute_batch(&format!(
        "CREATE VIRTUAL TABLE turns USING fts5(id UNINDEXED, text, tokenize='{tokenizer}')"
    ))?;
    for (id, text) in &conversation.turns {
        database.execute("INSERT INTO turns VALUES (?1, ?2)", [id, text])?;
    }
    let mut select =
        database.prepare("SELECT id FROM turns WHERE turns MATCH ?1 ORDER BY rank LIMIT ?2")?;
    let mut answers = Vec::new();
    for (question, _) in &conversation.questions {
        let quoted: Vec<String> =
            words(question).iter().map(|word| format!("\"{word}\"")).collect();
        let rows = select.query_map((quoted.join(" OR "), DEPTH), |row| row.get(0))?;
        answers.push(rows.collect::<rusqlite::Result<Vec<String>>>()?);
    }
    Ok(answers)
}

fn raw_tantivy(conversation: &Conversation, tokenizer: &str) -> Result<Vec<Vec<String>>> {
    let mut schema = Schema::builder();
    let id = schema.add_text_field("id", STRING | STORED);
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(tokenizer)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let text =
        schema.add_text_field("text", FieldOptions::default().set_indexing_options(indexing));
    let index = Index::create_in_ram(schema.build());
    let mut writer = index.writer_with_num_threads(1, 15_000_000)?;
    for (turn, said) in &conversation.turns {
        writer.add_document(doc!(id => turn.as_str(), text => said.as_str()))?;
    }
    writer.commit()?;
    let searcher = index.reader()?.searcher();
    let parser = QueryParser::for_index(&index, vec![text]);
    let mut answers = Vec::new();
    for (question, _) in &conversation.questions {
        let query = parser.parse_query(&words(question).join(" ").to_lowercase())?;
        let top = searcher.search(&query, &TopDocs::with_limit(DEPTH).order_by_score())?;
        let mut hits = Vec::new();
        for (_, address) in top {
            let stored: TantivyDocument = searcher.doc(address)?;
            let value = stored.get_first(id).and_then(|value| value.as_str());
            hits.push(value.unwrap_or_default().to_owned());
        }
        answers.push(hits);
    }
    Ok(answers)
}
