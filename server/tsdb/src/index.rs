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
    /// The ids with any value of a label that begins with `prefix` and that `keep` takes.
    fn values(&self, name: &str, prefix: &str, keep: &dyn Fn(&str) -> bool) -> Ids<Self::Id>;
}

/// The ids with any of the values that a matcher's text or expression accepts. A small set of them is looked up.
fn accepted<P: Postings>(index: &P, matcher: &Matcher) -> Ids<P::Id> {
    if let Some(values) = matcher.set_values() {
        return match values {
            [only] => index.pair(matcher.name(), only),
            values => union(values.iter().map(|value| index.pair(matcher.name(), value))),
        };
    }
    let positive = matcher.op().is_positive();
    index.values(matcher.name(), matcher.prefix().unwrap_or_default(), &|value| matcher.matches(value) == positive)
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
        let ids = if matcher.op().is_positive() {
            accepted(index, matcher)
        } else {
            index.values(matcher.name(), "", &|value| matcher.matches(value))
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
        let refused = match matcher.op().is_positive() {
            true if matcher.accepts_anything() => continue,
            true => index.values(matcher.name(), "", &|value| !matcher.matches(value)),
            false => accepted(index, matcher),
        };
        found = subtract(&found, &refused);
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

    /// Series by their value of the label `a`; 9 has none.
    struct Few;

    const VALUES: [&str; 5] = ["", "api", "app", "db", "web"];

    impl Postings for Few {
        type Id = u32;

        fn all(&self) -> Ids<u32> {
            vec![1, 2, 3, 4, 9]
        }

        fn pair(&self, _: &str, value: &str) -> Ids<u32> {
            self.values("a", "", &|have| have == value)
        }

        fn values(&self, _: &str, prefix: &str, keep: &dyn Fn(&str) -> bool) -> Ids<u32> {
            let kept = |id: &u32| VALUES[*id as usize].starts_with(prefix) && keep(VALUES[*id as usize]);
            (1..5).filter(kept).collect()
        }
    }

    #[test]
    fn matchers_become_sets_of_ids() {
        for (op, value, want) in [
            (MatchOp::Equal, "api", &[1][..]),
            (MatchOp::Equal, "", &[9]),
            (MatchOp::NotEqual, "api", &[2, 3, 4, 9]),
            (MatchOp::NotEqual, "", &[1, 2, 3, 4]),
            (MatchOp::Regex, "api|web|none", &[1, 4]),
            (MatchOp::Regex, "ap.", &[1, 2]),
            (MatchOp::Regex, "ap.|", &[1, 2, 9]),
            (MatchOp::Regex, ".*", &[1, 2, 3, 4, 9]),
            (MatchOp::Regex, ".+", &[1, 2, 3, 4]),
            (MatchOp::NotRegex, "api|web", &[2, 3, 9]),
            (MatchOp::NotRegex, "ap.*", &[3, 4, 9]),
            (MatchOp::NotRegex, ".+", &[9]),
            (MatchOp::NotRegex, "api|", &[2, 3, 4]),
        ] {
            let matcher = Matcher::new(op, "a", value).expect("a matcher");
            assert_eq!(select(&Few, &[matcher]), want, "{op:?} {value}");
        }
    }

    #[test]
    fn sets() {
        let long: Vec<u32> = (0..100).map(|i| i * 2).collect();
        assert_eq!(intersect(&[1, 2, 150], &long), [2, 150]);
        assert_eq!(intersect(&[1, 2, 4, 7], &[2, 3, 4]), [2, 4]);
        assert_eq!(subtract(&[1, 2, 4, 7], &[2, 3, 7, 9]), [1, 4]);
        assert_eq!(union([vec![3, 5], vec![1, 3]]), [1, 3, 5]);
    }
}
