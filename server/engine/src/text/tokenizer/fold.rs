//! Folding: one spelling for words that differ only in case, accents or typographic variants.

use unicode_normalization::UnicodeNormalization;

/// Longest indexed token, in characters; what is longer is cut, so that its beginning can still
/// be found.
pub(super) const MAX_TOKEN_CHARS: usize = 64;

/// Appends the folded form of `word` to `out`: lower case, without diacritics and apostrophes,
/// with compatibility forms (full-width letters, ligatures) replaced, cut to
/// [`MAX_TOKEN_CHARS`].
pub(super) fn fold_into(word: &str, out: &mut String) {
    if word.is_ascii() {
        let kept = word.bytes().filter(|byte| *byte != b'\'').take(MAX_TOKEN_CHARS);
        out.extend(kept.map(|byte| char::from(byte.to_ascii_lowercase())));
        return;
    }
    // Decompose, drop the Latin/Greek/Cyrillic combining marks, compose again: composing keeps
    // scripts whose syllables decompose too (Hangul) in one piece.
    let folded = word
        .nfkd()
        .filter(|c| !is_combining_diacritic(*c) && !matches!(c, '\'' | '\u{2019}'))
        .flat_map(char::to_lowercase)
        .nfc()
        .take(MAX_TOKEN_CHARS);
    for c in folded {
        match c {
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'ø' => out.push('o'),
            'ł' => out.push('l'),
            'đ' | 'ð' => out.push('d'),
            'þ' => out.push_str("th"),
            'ı' => out.push('i'),
            _ if is_combining_diacritic(c) => {}
            _ => out.push(c),
        }
    }
}

/// Marks that folding drops, such as the acute accent.
pub(super) const fn is_combining_diacritic(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}')
}

/// Whether `c` belongs to a script that does not put spaces between words, so that single
/// characters and pairs are indexed instead of words.
pub(super) const fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'     // Thai, Lao
        | '\u{1000}'..='\u{109f}'   // Myanmar
        | '\u{1100}'..='\u{11ff}'   // Hangul Jamo
        | '\u{1780}'..='\u{17ff}'   // Khmer
        | '\u{3005}'..='\u{3007}'   // iteration mark, closing mark, zero
        | '\u{3040}'..='\u{30ff}'   // Hiragana, Katakana
        | '\u{3400}'..='\u{4dbf}'   // Han, extension A
        | '\u{4e00}'..='\u{9fff}'   // Han
        | '\u{ac00}'..='\u{d7af}'   // Hangul
        | '\u{f900}'..='\u{faff}'   // Han, compatibility
        | '\u{ff66}'..='\u{ff9f}'   // half-width Katakana
        | '\u{20000}'..='\u{3134f}' // Han, further extensions
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(word: &str) -> String {
        let mut out = String::new();
        fold_into(word, &mut out);
        out
    }

    #[test]
    fn case_accents_and_ligatures_do_not_distinguish_words() {
        for (word, folded) in [
            ("Crème", "creme"),
            ("CREME", "creme"),
            ("Straße", "strasse"),
            ("Ångström", "angstrom"),
            ("smørrebrød", "smorrebrod"),
            ("ﬁle", "file"),
            ("Ｆｕｌｌ", "full"),
            ("Ёлка", "елка"),
            ("don’t", "dont"),
            ("don't", "dont"),
        ] {
            assert_eq!(fold(word), folded, "{word}");
        }
        assert_eq!(fold("한국어"), "한국어");
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(fold(&"x".repeat(500)).len(), MAX_TOKEN_CHARS);
        assert_eq!(fold(&"ñ".repeat(500)).chars().count(), MAX_TOKEN_CHARS);
    }
}
