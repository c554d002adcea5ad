//! "Did you mean": the nearest known name to one that is not known.

/// The candidate nearest to `unknown`, if one is near enough that a typing mistake explains it.
pub fn nearest<'a>(
    unknown: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = unknown.to_lowercase();
    // A third of the name may be wrong; beyond that a suggestion misleads.
    let limit = (wanted.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `left` into `right`.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let replaced = at(&above, column) + usize::from(a != b);
            let mut best = replaced.min(at(&above, column + 1) + 1).min(at(&current, column) + 1);
            let previous = |word: &[char], index: usize| {
                index.checked_sub(1).and_then(|index| word.get(index)).copied()
            };
            if previous(&left, row) == Some(*b) && previous(&right, column) == Some(*a) {
                best = best.min(column.checked_sub(1).map_or(best, |c| at(&before, c) + 1));
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    at(&above, right.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_a_swap_as_one() {
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["listen.mcpPort", "listen.healthPort", "safeMode"];
        assert_eq!(nearest("listen.mcpport", known), Some("listen.mcpPort"));
        assert_eq!(nearest("safemdoe", known), Some("safeMode"));
        assert_eq!(nearest("colour", known), None);
    }
}
