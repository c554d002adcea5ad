//! "Did you mean": the nearest known name to one that is not known.

use strsim::damerau_levenshtein;

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
        .map(|candidate| (damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["listen.mcpPort", "listen.healthPort", "safeMode"];
        assert_eq!(nearest("listen.mcpport", known), Some("listen.mcpPort"));
        assert_eq!(nearest("safemdoe", known), Some("safeMode"));
        assert_eq!(nearest("colour", known), None);
    }
}
