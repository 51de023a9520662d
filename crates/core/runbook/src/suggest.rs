//! "Did you mean …?": the known word nearest to a mistyped one.

/// The candidate nearest to `word` by edit distance, if it is near enough to be what was meant:
/// at most a third of the word's letters (and at least one) differ.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A remedy that names the nearest candidate, or all of them where none is near.
pub(crate) fn remedy<'a>(
    what: &str,
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(near) = closest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<&str> = candidates.into_iter().take(24).collect();
    if all.is_empty() {
        format!("there are no {what} here")
    } else {
        format!("the {what} are: {}", all.join(", "))
    }
}

/// Levenshtein distance in characters, two rows at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = at(&previous, j) + usize::from(from != *to);
            let removed = at(&previous, j + 1) + 1;
            let inserted = at(&current, j) + 1;
            current.push(substituted.min(removed).min(inserted));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}

fn at(row: &[usize], index: usize) -> usize {
    row.get(index).copied().unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_the_word_that_was_meant() {
        assert_eq!(closest("isolat", ["isolate", "rotate"]), Some("isolate"));
        assert_eq!(
            closest("snapshto", ["snapshot", "reseal"]),
            Some("snapshot")
        );
        assert_eq!(closest("xyz", ["snapshot", "reseal"]), None);
        assert_eq!(closest("", ["a"]), Some("a"));
    }
}
