//! "Did you mean": the known word nearest to an unknown one.

/// Longest word that is compared; a longer one is no slip of the pen, and the comparison costs its square.
const LONGEST_COMPARED: usize = 64;

/// The candidate that differs from `word` by the fewest single-letter edits, if few enough to be a slip: at most two,
/// and fewer than half the letters.
#[must_use]
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > LONGEST_COMPARED {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST_COMPARED)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 2 && edits * 2 < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Least number of letters to insert, remove or replace to turn one word into the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (&above, &other) in row.iter().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(letter != other);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
            diagonal = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["trust_domain", "name", "data_dir"];
        assert_eq!(nearest("trust_domian", known), Some("trust_domain"));
        assert_eq!(nearest("data_dirs", known), Some("data_dir"));
        assert_eq!(nearest("naem", known), None, "two edits of four letters could be anything");
        assert_eq!(nearest("nam", known), Some("name"));
        assert_eq!(nearest("federation", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
