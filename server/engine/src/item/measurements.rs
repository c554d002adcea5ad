//! Measurements on real text, run by hand: the figures they print are quoted in the
//! documentation of `redaction` and `similarity`.
//!
//! ```text
//! LLM_MEMORY_SAMPLE=~/.cargo/registry/src cargo test -p llm-memory-engine --lib -- \
//!     --ignored --nocapture measurements
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llm_memory_disk::{Disk, OsDisk};

use super::Redactor;
use super::similarity::Sketch;

/// Texts below the folder that `LLM_MEMORY_SAMPLE` names, by path; files that are not UTF-8 or
/// longer than 1 MiB are left out.
fn sample(extensions: &[&str], most: usize) -> Vec<(PathBuf, String)> {
    let root = std::env::var("LLM_MEMORY_SAMPLE").expect("LLM_MEMORY_SAMPLE names a folder");
    let mut files = Vec::new();
    walk(Path::new(&root), extensions, &mut files);
    // Evenly over all folders, the same every time.
    let step = (files.len() / most).max(1);
    files
        .into_iter()
        .step_by(step)
        .filter_map(|path| {
            let text = String::from_utf8(OsDisk.read(&path).unwrap()).ok()?;
            Some((path, text))
        })
        .collect()
}

fn walk(folder: &Path, extensions: &[&str], out: &mut Vec<PathBuf>) {
    for entry in OsDisk.list(folder).unwrap() {
        let path = folder.join(&entry.name);
        if entry.is_dir {
            walk(&path, extensions, out);
        } else if entry.len < 1 << 20
            && path
                .extension()
                .is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
        {
            out.push(path);
        }
    }
}

#[test]
#[ignore = "needs LLM_MEMORY_SAMPLE; prints what redaction takes out of ordinary source"]
fn redactions_in_ordinary_source() {
    let redactor = Redactor::builtin().unwrap();
    let texts = sample(&["rs", "md", "toml", "py", "ts", "js", "json", "yml", "c", "h"], 20_000);
    let (mut bytes, mut lines, mut hits, mut files) = (0, 0, 0, 0);
    for (path, text) in &texts {
        bytes += text.len();
        lines += text.lines().count();
        let redacted = redactor.redact(text);
        files += usize::from(!redacted.hashes.is_empty());
        hits += redacted.hashes.len();
        let name: PathBuf =
            path.components().rev().take(4).collect::<Vec<_>>().iter().rev().collect();
        for (before, after) in text.lines().zip(redacted.text.lines()) {
            if before != after && !redacted.hashes.is_empty() {
                println!(
                    "{}: {}",
                    name.display(),
                    before.trim().chars().take(150).collect::<String>()
                );
                if text.lines().count() != redacted.text.lines().count() {
                    break;
                }
            }
        }
    }
    println!(
        "{} files, {bytes} bytes, {lines} lines: {hits} redactions in {files} files",
        texts.len()
    );
    assert!(hits * 2000 < lines, "more than one redaction in 2,000 lines");
}

#[test]
#[ignore = "needs LLM_MEMORY_SAMPLE; prints precision and recall of near-duplicate detection"]
fn near_duplicates_in_real_text() {
    const SECTIONS: usize = 3000;
    let mut sections: Vec<Vec<u64>> = Vec::new();
    let mut sketches = Vec::new();
    'files: for (_, text) in sample(&["md"], 1000) {
        for section in text.split("\n## ") {
            let words: Vec<&str> =
                section.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
            if words.len() < 20 || words.len() > 800 {
                continue;
            }
            let mut shingles: Vec<u64> = words
                .windows(3)
                .map(|window| {
                    let digest = crate::ids::Digest::of(window.join(" ").to_lowercase().as_bytes());
                    u64::from_le_bytes(digest.0[..8].try_into().unwrap())
                })
                .collect();
            shingles.sort_unstable();
            shingles.dedup();
            sections.push(shingles);
            sketches.push(Sketch::of_texts([section]).unwrap());
            if sections.len() == SECTIONS {
                break 'files;
            }
        }
    }
    // Pairs by exact similarity in tenths, and how many of them each threshold reports.
    let mut pairs: BTreeMap<u32, [u64; 5]> = BTreeMap::new();
    let (mut candidates, mut all) = (0_u64, 0_u64);
    for (at, (a, sketch_a)) in sections.iter().zip(&sketches).enumerate() {
        let bands = sketch_a.bands();
        for (b, sketch_b) in sections.iter().zip(&sketches).skip(at + 1) {
            all += 1;
            let is_candidate = sketch_b.bands().iter().zip(&bands).any(|(a, b)| a == b);
            candidates += u64::from(is_candidate);
            let estimate = sketch_a.similarity(sketch_b);
            let exact = jaccard(a, b);
            if exact < 0.1 && !is_candidate {
                continue;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share between 0 and 1"
            )]
            let tenth = (exact * 10.0) as u32;
            let row = pairs.entry(tenth).or_default();
            row[0] += 1;
            for (slot, threshold) in row[1..].iter_mut().zip([0.6, 0.7, 0.8, 0.9]) {
                *slot += u64::from(is_candidate && estimate >= threshold);
            }
        }
    }
    println!("{} sections, {all} pairs, {candidates} candidates", sections.len());
    println!("exact similarity: pairs, reported at 0.6, 0.7, 0.8, 0.9");
    for (tenth, row) in &pairs {
        println!("0.{tenth}: {row:?}");
    }
    for (position, threshold) in [(1, 6), (2, 7), (3, 8), (4, 9)] {
        let above = |row: usize| -> u64 {
            pairs.iter().filter(|(tenth, _)| **tenth >= threshold).map(|(_, r)| r[row]).sum()
        };
        let reported: u64 = pairs.values().map(|row| row[position]).sum();
        let (right, wanted) = (above(position), above(0));
        println!(
            "threshold 0.{threshold}: precision {:.3}, recall {:.3}",
            right as f64 / reported as f64,
            right as f64 / wanted as f64
        );
        assert!(right * 10 >= wanted * 7 && right * 10 >= reported * 7);
    }
}

fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut left, mut right, mut common) = (0, 0, 0_usize);
    while left < a.len() && right < b.len() {
        match a[left].cmp(&b[right]) {
            std::cmp::Ordering::Less => left += 1,
            std::cmp::Ordering::Greater => right += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                left += 1;
                right += 1;
            }
        }
    }
    common as f64 / (a.len() + b.len() - common) as f64
}
