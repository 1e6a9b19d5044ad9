//! "Did you mean": the known word that is nearest to an unknown one.

/// The known word that differs least from `word`, unless all differ too much to be what was meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, name) = known.iter().map(|name| (distance(word, name), *name)).min()?;
    (distance <= name.len().max(word.len()) / 2).then_some(name)
}

/// How many letters must be added, removed or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["retries", "timeout", "queue", "schedule_timeout"];
        assert_eq!(nearest("retry", &known), Some("retries"));
        assert_eq!(nearest("time_out", &known), Some("timeout"));
        assert_eq!(nearest("que", &known), Some("queue"));
        assert_eq!(nearest("xyz", &known), None);
    }
}
