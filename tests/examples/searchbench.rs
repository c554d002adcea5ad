//! How fast words are found among generated items, next to raw tantivy on the same index.
//!
//! ```text
//! cargo run --release -p llm-memory-tests --example searchbench -- [--sizes 10000,100000,1000000]
//!     [--queries 2000] [--dir FOLDER] [--engine yes]
//! ```
//!
//! With `--engine yes` items are written by 64 clients through the whole engine, durably, and
//! queries run through its whole pipeline (bonuses, confidence, catalog, items of the page);
//! without, they go straight into a text index.
//!
//! Items are generated from a fixed seed: words of a Zipf-distributed vocabulary of 200,000, a
//! title of 3 to 8 and a text of 20 to 120 words, a third with code, tags from a set of 500.
//! Queries take one to four words from the text of a random item, so that they are as frequent as
//! words are in use; one in ten is a phrase, one in five has a tag filter. The index grows from
//! size to size.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use llm_memory_disk::{Disk, OsDisk};
use llm_memory_engine::api::{Caller, Detail, Filters, QueryRequest, UpsertRequest};
use llm_memory_engine::ids::{ItemId, ProjectId, Scope, ScopeSelector, Seq, Timestamp};
use llm_memory_engine::item::{ItemType, Sensitivity};
use llm_memory_engine::ranking::Parameters;
use llm_memory_engine::text::{
    Change, Filter, IndexDoc, SearchRequest, TextField, TextIndex, TextOptions, parse,
};
use llm_memory_engine::{Engine, Options};
use tantivy::Term;
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Query, TermQuery};
use tantivy::schema::IndexRecordOption;

const NOW: i64 = 1_760_000_000_000;
const BATCH: u64 = 256;
const HITS: usize = 20;
/// What the query pipeline asks of the index for a page of 20.
const CANDIDATES: usize = 84;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Words by rank, drawn with probability proportional to 1 / rank.
struct Vocabulary {
    size: f64,
}

impl Vocabulary {
    fn word(&self, random: &mut Random) -> String {
        // Inverse of the integral of 1/x: close to Zipf with exponent 1.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
        let rank = self.size.powf(random.unit()) as u64;
        spell(rank)
    }
}

/// A pronounceable word for a rank, so that stemming and tokenizing do their usual work.
fn spell(mut rank: u64) -> String {
    let mut word = String::new();
    rank += 7;
    while rank > 0 {
        for letters in ["bcdfghjklmnprstvwz", "aeiou"] {
            let count = letters.len() as u64;
            let at = usize::try_from(rank % count).unwrap_or(0);
            word.extend(letters.chars().nth(at));
            rank /= count;
        }
    }
    word
}

fn sentence(vocabulary: &Vocabulary, random: &mut Random, words: u64) -> String {
    let words: Vec<String> = (0..words).map(|_| vocabulary.word(random)).collect();
    words.join(" ")
}

fn item(number: u64, vocabulary: &Vocabulary) -> Result<IndexDoc> {
    let random = &mut Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.next();
    let (title, text) = (3 + random.below(6), 20 + random.below(101));
    let title = sentence(vocabulary, random, title);
    let text = sentence(vocabulary, random, text);
    let code = if random.below(3) == 0 {
        let (name, argument) = (vocabulary.word(random), vocabulary.word(random));
        format!("fn {name}_{argument}(input: &str) -> Result<{name}> {{ {argument}(input) }}")
    } else {
        String::new()
    };
    let age = i64::try_from(random.below(365 * 86_400_000))?;
    let at = Timestamp::from_millis(NOW - age);
    Ok(IndexDoc {
        id: ItemId::new(format!("{number:026}"))?,
        item_type: if code.is_empty() { ItemType::Note } else { ItemType::Snippet },
        title,
        text,
        language: (!code.is_empty()).then(|| "rust".to_owned()),
        code,
        tags: vec![format!("tag{}", random.below(500)), format!("team{}", random.below(4))],
        files: Vec::new(),
        symbols: Vec::new(),
        sensitivity: Sensitivity::Team,
        created_by: format!("agent{}", random.below(50)),
        pinned: random.below(10_000) == 0,
        ttl_days: None,
        expires_at: None,
        created_at: at,
        updated_at: at,
        seq: Seq(number),
    })
}

fn main() -> Result<()> {
    let mut sizes = vec![10_000, 100_000, 1_000_000];
    let mut queries = 2_000;
    let mut dir = None;
    let mut engine = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--sizes" => {
                sizes = value.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            }
            "--queries" => queries = value.parse()?,
            "--engine" => engine = value == "yes",
            "--dir" => dir = Some(PathBuf::from(value)),
            _ => bail!("unknown option {flag}: use --sizes, --queries, --dir or --engine"),
        }
    }
    let temporary = tempfile::tempdir()?;
    let dir = dir.unwrap_or_else(|| temporary.path().to_path_buf());
    let vocabulary = Vocabulary { size: 200_000.0 };
    if engine {
        return through_engine(&dir, &sizes, queries, &vocabulary);
    }
    let index = TextIndex::open(Arc::new(OsDisk), &dir, TextOptions::default())?;
    let mut next = index.applied().0 + 1;
    for size in sizes {
        let (mut applying, started, from) = (Duration::ZERO, Instant::now(), next);
        while next <= size {
            let until = (next + BATCH - 1).min(size);
            let batch: Vec<Change> = (next..=until)
                .map(|number| {
                    let doc = item(number, &vocabulary)?;
                    Ok(Change::Put { seq: doc.seq, doc: Box::new(doc) })
                })
                .collect::<Result<_>>()?;
            let before = Instant::now();
            index.apply(batch);
            applying += before.elapsed();
            next = until + 1;
        }
        index.flush()?;
        let written = (next - from).max(1);
        say(&format!(
            "{size} items: {} segments, index {} MB, resident {} MB; loaded {written} in {:.1} s, \
             apply {:.1} us an item",
            index.committed().segment_readers().len(),
            index.bytes()? >> 20,
            resident_bytes()? >> 20,
            started.elapsed().as_secs_f64(),
            applying.as_secs_f64() * 1e6 / written as f64,
        ));
        measure(&index, size, queries, &vocabulary)?;
    }
    index.close()?;
    Ok(())
}

/// Writers that wait for durability at the same time.
const CLIENTS: u64 = 64;

fn through_engine(
    dir: &std::path::Path,
    sizes: &[u64],
    queries: usize,
    vocabulary: &Vocabulary,
) -> Result<()> {
    let engine = Engine::open(Arc::new(OsDisk), dir, Options::default())?;
    let caller = Caller::unrestricted("bench", Some(ProjectId::new("bench")?));
    let mut next = 1;
    for &size in sizes {
        let (started, from) = (Instant::now(), next);
        std::thread::scope(|scope| -> Result<()> {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let (engine, caller) = (&engine, &caller);
                    scope.spawn(move || -> Result<()> {
                        for number in (from + client..=size).step_by(usize::try_from(CLIENTS)?) {
                            engine.upsert(caller, upsert(item(number, vocabulary)?))?;
                        }
                        Ok(())
                    })
                })
                .collect();
            for client in clients {
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            Ok(())
        })?;
        next = size + 1;
        let seconds = started.elapsed().as_secs_f64();
        let status = engine.status()?;
        let status = status.first().context("no scope is open")?;
        say(&format!(
            "{size} items: {:.0} durable upserts/s by {CLIENTS} clients; journal {} MB, catalog \
             {} MB, index {} MB, resident {} MB",
            (size + 1 - from) as f64 / seconds,
            status.journal_bytes >> 20,
            status.catalog_bytes >> 20,
            status.index_bytes >> 20,
            resident_bytes()? >> 20,
        ));
        let all = asked(size, queries, vocabulary)?;
        for round in ["first", "cached"] {
            let mut times = Vec::with_capacity(all.len());
            for one in &all {
                let request = QueryRequest {
                    q: one.text.clone(),
                    scope: ScopeSelector::Local,
                    detail: Detail::Summary,
                    filters: Filters {
                        tags: one.tag.iter().cloned().collect(),
                        ..Filters::default()
                    },
                    ..QueryRequest::default()
                };
                let before = Instant::now();
                engine.query(&caller, request)?;
                times.push(before.elapsed());
            }
            say(&format!("  {round:<10} {}", percentiles(times)));
        }
    }
    engine.close()?;
    Ok(())
}

fn upsert(doc: IndexDoc) -> UpsertRequest {
    UpsertRequest {
        id: Some(doc.id),
        item_type: doc.item_type,
        scope: Scope::Local,
        title: doc.title,
        text: doc.text,
        code: doc.code,
        language: doc.language,
        tags: doc.tags,
        files: doc.files,
        symbols: doc.symbols,
        confidence: None,
        pinned: doc.pinned,
        sensitivity: Some(doc.sensitivity),
        context: None,
        ttl_days: None,
        links: None,
        if_version: None,
    }
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
fn say(line: &str) {
    println!("{line}");
}

fn resident_bytes() -> Result<u64> {
    let status = OsDisk.read(std::path::Path::new("/proc/self/status"))?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes << 10)
}

struct Asked {
    text: String,
    words: Vec<String>,
    phrase: bool,
    tag: Option<String>,
}

impl Asked {
    const fn kind(&self) -> &'static str {
        match (&self.tag, self.words.len()) {
            (Some(_), _) => "tagged",
            (None, 1) => "one word",
            (None, _) if self.phrase => "phrase",
            (None, _) => "words",
        }
    }
}

fn asked(size: u64, count: usize, vocabulary: &Vocabulary) -> Result<Vec<Asked>> {
    let mut random = Random(0x5eed);
    (0..count)
        .map(|_| {
            let source = item(1 + random.below(size), vocabulary)?;
            let all: Vec<&str> = source.text.split(' ').collect();
            let wanted = 1 + usize::try_from(random.below(4))?;
            let at = usize::try_from(random.below((all.len() - wanted) as u64))?;
            let words: Vec<String> =
                all.iter().skip(at).take(wanted).map(|word| (*word).to_owned()).collect();
            let joined = words.join(" ");
            let phrase = random.below(10) == 0;
            let text = if phrase { format!("\"{joined}\"") } else { joined };
            let tag = (random.below(5) == 0).then(|| format!("tag{}", random.below(500)));
            Ok(Asked { text, words, phrase, tag })
        })
        .collect()
}

fn measure(index: &TextIndex, size: u64, count: usize, vocabulary: &Vocabulary) -> Result<()> {
    let all = asked(size, count, vocabulary)?;
    for warm in [false, true] {
        let mut ours: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        let mut raw = Vec::with_capacity(all.len());
        for one in &all {
            let started = Instant::now();
            search(index, one)?;
            let took = started.elapsed();
            for kind in ["all", one.kind()] {
                ours.entry(kind).or_default().push(took);
            }
            let started = Instant::now();
            raw_search(index, one)?;
            raw.push(started.elapsed());
        }
        if warm {
            for (kind, times) in ours {
                say(&format!("  {kind:<10} {}", percentiles(times)));
            }
            say(&format!("  tantivy    {}", percentiles(raw)));
        }
    }
    Ok(())
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    format!("p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms", at(50), at(95), at(99))
}

/// What a page of 20 costs: statistics, candidates with their signals, total, ids.
fn search(index: &TextIndex, asked: &Asked) -> Result<usize> {
    let query = parse(&asked.text);
    let statistics = index.statistics(&query, None)?;
    let filter = Filter {
        tags: asked.tag.iter().cloned().collect(),
        ..Filter::everything(Timestamp::from_millis(NOW))
    };
    let request = SearchRequest {
        query: &query,
        parameters: &Parameters::default(),
        filter: &filter,
        prior: None,
        limit: CANDIDATES,
        floor: None,
        count_limit: 10_000,
        facets: false,
        overlay: None,
    };
    let found = index.search(&request, &statistics)?;
    let mut ids = 0;
    for hit in found.hits.iter().take(HITS) {
        ids += usize::from(found.id(hit)?.is_some());
    }
    Ok(ids)
}

/// The same words in title, text and code with tantivy's own means: its BM25 and top 20, no
/// total, no phrase, no filter, no ids.
fn raw_search(index: &TextIndex, asked: &Asked) -> Result<usize> {
    let searcher = index.committed();
    let mut clauses: Vec<Box<dyn Query>> = Vec::new();
    for word in &asked.words {
        for (field, weight) in
            [(TextField::Title, 5.0), (TextField::Text, 2.0), (TextField::Code, 1.5)]
        {
            let tantivy_field = searcher.schema().get_field(field.as_str())?;
            let mut analyzer = searcher.index().tokenizer_for_field(tantivy_field)?;
            let mut stream = analyzer.token_stream(word);
            if tantivy::tokenizer::TokenStream::advance(&mut stream) {
                let token = tantivy::tokenizer::TokenStream::token(&stream);
                let term = Term::from_field_text(tantivy_field, &token.text);
                let query = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                clauses.push(Box::new(BoostQuery::new(query, weight)));
            }
        }
    }
    let query = BooleanQuery::union(clauses);
    Ok(searcher.search(&query, &TopDocs::with_limit(HITS).order_by_score())?.len())
}
