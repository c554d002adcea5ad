//! The same searches with tantivy's own means on the same index: its BM25 over title, text and code
//! with the same weights, and its best ten; no total, no bonus, no filter, no items.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use llm_memory_disk::{Disk as _, OsDisk};
use llm_memory_engine::text::{TextField, TextIndex, TextOptions};
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::tokenizer::TokenStream as _;
use tantivy::{Searcher, Term};

use super::figures::Figures;

const FIELDS: [(TextField, f32); 3] =
    [(TextField::Title, 5.0), (TextField::Text, 2.0), (TextField::Code, 1.5)];
const HITS: usize = 10;

/// Runs `queries` on the index of the scope in `scope`, which nobody has open.
pub(super) fn search(scope: &Path, queries: &[String]) -> Result<Figures> {
    let views = OsDisk.list(&scope.join("views"))?;
    let newest = views.iter().filter_map(|entry| entry.name.parse::<u64>().ok()).max();
    let folder = scope.join("views").join(newest.context("no views")?.to_string()).join("index");
    let options = TextOptions { read_only: true, ..TextOptions::default() };
    let index = TextIndex::open(Arc::new(OsDisk), &folder, options)?;
    let searcher = index.committed();
    let mut times = Vec::with_capacity(queries.len());
    let mut began = Instant::now();
    for (number, query) in queries.iter().enumerate() {
        if number == queries.len() / 10 {
            // What came before warmed the page cache.
            times.clear();
            began = Instant::now();
        }
        let one = Instant::now();
        let query = union(&searcher, query)?;
        searcher.search(&query, &TopDocs::with_limit(HITS).order_by_score())?;
        times.push(one.elapsed());
    }
    Ok(Figures::new(times, began.elapsed()))
}

fn union(searcher: &Searcher, words: &str) -> Result<BooleanQuery> {
    let mut clauses: Vec<Box<dyn Query>> = Vec::new();
    for (field, weight) in FIELDS {
        let field = searcher.schema().get_field(field.as_str())?;
        let mut analyzer = searcher.index().tokenizer_for_field(field)?;
        let mut stream = analyzer.token_stream(words);
        while stream.advance() {
            let term = Term::from_field_text(field, &stream.token().text);
            let query = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            clauses.push(Box::new(BoostQuery::new(query, weight)));
        }
    }
    Ok(BooleanQuery::union(clauses))
}
