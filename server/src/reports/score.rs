//! One figure for the state of the system, with the parts it is made of.
//!
//! Each part scores 0 to 100. Parts that are a share of something limited (memory, CPU, storage)
//! score 100 up to their target and fall evenly to 0 at 100 % use. The overall score is the mean
//! of the parts that have data; a part without data is shown as such and does not count. A service
//! that does not answer makes the whole critical, however well the machine does.

use serde::Serialize;

/// One part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Part {
    /// What it is.
    pub(crate) name: &'static str,
    /// The figure it is computed from, or why there is none.
    pub(crate) figure: String,
    /// 0 to 100; `None` without data.
    pub(crate) score: Option<f64>,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SystemScore {
    /// Mean of the parts with data; `None` when there is none.
    pub(crate) overall: Option<f64>,
    /// Good, Fair, Poor or Critical.
    pub(crate) word: &'static str,
    /// The parts.
    pub(crate) parts: Vec<Part>,
}

impl SystemScore {
    /// The score of these parts.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        let scores: Vec<f64> = parts.iter().filter_map(|part| part.score).collect();
        let overall = (!scores.is_empty())
            .then(|| one_decimal(scores.iter().sum::<f64>() / scores.len() as f64));
        let word = match overall {
            Some(score) if score >= 90.0 => "Good",
            Some(score) if score >= 70.0 => "Fair",
            Some(_) => "Poor",
            None => "no data",
        };
        Self { overall, word, parts }
    }

    /// The score where the service does not answer: nothing of it makes up for that.
    #[must_use]
    pub(crate) fn of_nobody(self) -> Self {
        Self { overall: Some(0.0), word: "Critical", ..self }
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let overall =
            self.overall.map_or_else(|| "no data".to_owned(), |score| format!("{score} %"));
        let mut out = format!("system health: {overall} ({})\n", self.word);
        for part in &self.parts {
            let score =
                part.score.map_or_else(|| "no data".to_owned(), |score| format!("{score} %"));
            out.push_str(&format!("  {:20}  {score:8}  {}\n", part.name, part.figure));
        }
        out
    }
}

impl Part {
    /// A part that cannot be computed, and why.
    pub(crate) fn no_data(name: &'static str, why: &str) -> Self {
        Self { name, figure: format!("no data: {why}"), score: None }
    }

    /// A part that is `used_percent` of something, fine up to `target_percent`.
    pub(crate) fn usage(name: &'static str, used_percent: f64, target_percent: f64) -> Self {
        let used = used_percent.clamp(0.0, 100.0);
        let over = (used - target_percent).max(0.0) / (100.0 - target_percent).max(1.0);
        Self {
            name,
            figure: format!("{} % used (target under {target_percent} %)", one_decimal(used)),
            score: Some(one_decimal(100.0 * (1.0 - over.min(1.0)))),
        }
    }

    /// A part that is a share of things that are as they should be.
    pub(crate) fn share(name: &'static str, good: f64, figure: String) -> Self {
        Self { name, figure, score: Some(one_decimal(100.0 * good.clamp(0.0, 1.0))) }
    }
}

fn one_decimal(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "the values are exact")]

    use super::*;

    #[test]
    fn use_below_target_is_perfect_and_full_is_zero() {
        let score = |used| Part::usage("disk", used, 80.0).score.unwrap();
        assert_eq!((score(0.0), score(80.0), score(90.0), score(100.0)), (100.0, 100.0, 50.0, 0.0));
        assert_eq!(score(250.0), 0.0);
    }

    #[test]
    fn parts_without_data_do_not_count() {
        let parts = vec![
            Part::share("service", 1.0, "ready".to_owned()),
            Part::usage("storage", 92.5, 85.0),
            Part::no_data("frequency alignment", "there are no personas"),
        ];
        let score = SystemScore::of(parts);
        assert_eq!((score.overall, score.word), (Some(75.0), "Fair"));
        assert!(score.text().contains("no data: there are no personas"));
        assert_eq!(SystemScore::of(vec![]).overall, None);
    }
}
