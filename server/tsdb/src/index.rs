//! Sets of series ids as sorted lists, and how matchers become one.

use model::{MatchOp, Matcher};

/// Sorted, each once.
pub(crate) type Ids<T> = Vec<T>;

/// What a selection needs to know of an index.
pub(crate) trait Postings {
    type Id: Copy + Ord;
    /// All ids.
    fn all(&self) -> Ids<Self::Id>;
    /// The ids with this very pair.
    fn pair(&self, name: &str, value: &str) -> Ids<Self::Id>;
    /// The ids with any value of a label that `keep` takes.
    fn values(&self, name: &str, keep: &dyn Fn(&str) -> bool) -> Ids<Self::Id>;
}

/// The ids that satisfy all matchers. Cheap matchers go first, and nothing is read once nothing is left.
pub(crate) fn select<P: Postings>(index: &P, matchers: &[Matcher]) -> Ids<P::Id> {
    let mut found: Option<Ids<P::Id>> = None;
    let (narrow, wide): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|matcher| !matcher.matches_empty());
    let rank = |matcher: &&Matcher| match matcher.op() {
        MatchOp::Equal => 0,
        MatchOp::Regex => 1,
        MatchOp::NotEqual | MatchOp::NotRegex => 2,
    };
    let mut narrow = narrow;
    narrow.sort_by_key(rank);
    for matcher in narrow {
        if found.as_ref().is_some_and(Vec::is_empty) {
            return Vec::new();
        }
        let ids = match matcher.op() {
            MatchOp::Equal => index.pair(matcher.name(), matcher.value()),
            _ => index.values(matcher.name(), &|value| matcher.matches(value)),
        };
        found = Some(match found {
            Some(have) => intersect(&have, &ids),
            None => ids,
        });
    }
    let mut found = found.unwrap_or_else(|| index.all());
    // A matcher that takes an absent label takes away the ids whose value it refuses.
    for matcher in wide {
        if found.is_empty() {
            break;
        }
        found = subtract(&found, &index.values(matcher.name(), &|value| !matcher.matches(value)));
    }
    found
}

fn intersect<T: Copy + Ord>(a: &[T], b: &[T]) -> Vec<T> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    // A short list against a long one: search; else walk both.
    if short.len() * 16 < long.len() {
        return short.iter().copied().filter(|id| long.binary_search(id).is_ok()).collect();
    }
    let mut rest = long.iter().peekable();
    short
        .iter()
        .copied()
        .filter(|id| {
            while rest.next_if(|have| *have < id).is_some() {}
            rest.peek() == Some(&id)
        })
        .collect()
}

fn subtract<T: Copy + Ord>(a: &[T], b: &[T]) -> Vec<T> {
    let mut rest = b.iter().peekable();
    a.iter()
        .copied()
        .filter(|id| {
            while rest.next_if(|have| *have < id).is_some() {}
            rest.peek() != Some(&id)
        })
        .collect()
}

/// One sorted list of several.
pub(crate) fn union<T: Copy + Ord>(lists: impl IntoIterator<Item = Vec<T>>) -> Vec<T> {
    let mut all: Vec<T> = lists.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let long: Vec<u32> = (0..100).map(|i| i * 2).collect();
        assert_eq!(intersect(&[1, 2, 150], &long), [2, 150]);
        assert_eq!(intersect(&[1, 2, 4, 7], &[2, 3, 4]), [2, 4]);
        assert_eq!(subtract(&[1, 2, 4, 7], &[2, 3, 7, 9]), [1, 4]);
        assert_eq!(union([vec![3, 5], vec![1, 3]]), [1, 3, 5]);
    }
}
