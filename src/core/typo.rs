//! What a word was probably meant to be.
//!
//! Owns: how near two words must be.
//! Must not know: what they name.

/// The known word that `written` is a typo of: at most two slips away, in any
/// letter case.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase();
    let length = lower.chars().count();
    known
        // A slip changes a length by one: what cannot be near costs nothing.
        .filter(|word| word.chars().count().abs_diff(length) <= 2)
        .map(|word| (strsim::damerau_levenshtein(word, &lower), word))
        .filter(|(slips, word)| *slips <= 2 && *slips < word.len().min(lower.len()))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word() {
        let words = ["session", "ttl", "exit"];
        let check =
            |written, expected| assert_eq!(nearest(written, words.into_iter()), expected, "{written}");
        check("sesion", Some("session"));
        check("SESSOIN", Some("session"));
        check("tll", Some("ttl"));
        check("exits", Some("exit"));
        check("us", None);
        check("", None);
    }
}
