//! What is known of a counter reset between two native histograms of a series, as a chunk store knows it.
//!
//! Upstream keeps such histograms in chunks whose header says whether the chunk begins after a reset; within a chunk
//! there is none by construction. Readers see that as the hint of each sample, and PromQL's answers depend on it.
//! Left out: that upstream also begins a chunk after a number of samples, which changes no hint.

use model::{FloatHistogram, Span, is_stale};
use std::sync::Arc;

/// The histogram with the hint a reader gets. O(buckets).
pub fn hinted(before: Option<&FloatHistogram>, mut histogram: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    if histogram.gauge {
        return histogram;
    }
    // A reset that the sample tells of itself is kept; one that only the counts show is left to the reader, as upstream.
    let continues = before.is_some_and(|before| continues(before, &histogram));
    let known = if continues { Some(false) } else { histogram.reset.filter(|reset| *reset) };
    if known != histogram.reset {
        Arc::make_mut(&mut histogram).reset = known;
    }
    histogram
}

/// Whether a histogram goes into the chunk of the one before it, so that there was no reset.
fn continues(before: &FloatHistogram, now: &FloatHistogram) -> bool {
    if before.gauge || now.reset == Some(true) {
        return false;
    }
    if is_stale(now.sum) {
        return true;
    }
    let bounds = now.custom_bounds.len() == before.custom_bounds.len()
        && now.custom_bounds.iter().zip(&before.custom_bounds).all(|(a, b)| a == b);
    !is_stale(before.sum)
        && bounds
        && now.schema == before.schema
        && now.zero_threshold == before.zero_threshold
        && now.count >= before.count
        && now.zero_count >= before.zero_count
        && covers((&before.positive_spans, &before.positive), (&now.positive_spans, &now.positive))
        && covers((&before.negative_spans, &before.negative), (&now.negative_spans, &now.negative))
}

/// Whether every bucket of `before` is in `now` with at least its count.
fn covers(before: (&[Span], &[f64]), now: (&[Span], &[f64])) -> bool {
    let mut later = buckets(now).peekable();
    buckets(before).filter(|(_, count)| *count != 0.0).all(|(index, count)| {
        while later.next_if(|(other, _)| *other < index).is_some() {}
        later.peek().is_some_and(|(other, have)| *other == index && *have >= count)
    })
}

/// Index and count of every bucket, ascending.
fn buckets<'a>((spans, counts): (&'a [Span], &'a [f64])) -> impl Iterator<Item = (i64, f64)> + 'a {
    let mut end = 0i64;
    let indexes = spans.iter().flat_map(move |span| {
        let start = end + i64::from(span.offset);
        end = start + i64::from(span.length);
        start..end
    });
    indexes.zip(counts.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(count: f64, offset: i32, positive: &[f64]) -> FloatHistogram {
        FloatHistogram {
            count,
            positive_spans: vec![Span { offset, length: positive.len() as u32 }],
            positive: positive.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn the_hint_follows_from_the_sample_before() {
        let before = histogram(4.0, 0, &[1.0, 3.0]);
        for (now, want) in [
            (histogram(5.0, 0, &[2.0, 3.0]), Some(false)),
            (histogram(6.0, -1, &[2.0, 1.0, 3.0]), Some(false)),
            (histogram(3.0, 0, &[1.0, 2.0]), None),
            (histogram(9.0, 1, &[9.0]), None),
            (FloatHistogram { schema: 1, ..histogram(9.0, 0, &[5.0, 4.0]) }, None),
            (FloatHistogram { reset: Some(true), ..histogram(9.0, 0, &[5.0, 4.0]) }, Some(true)),
            (FloatHistogram { sum: model::stale_nan(), ..FloatHistogram::default() }, Some(false)),
        ] {
            assert_eq!(hinted(Some(&before), Arc::new(now.clone())).reset, want, "{now:?}");
        }
        assert_eq!(hinted(None, Arc::new(before.clone())).reset, None);
        let gauge = FloatHistogram { gauge: true, ..before.clone() };
        assert_eq!(hinted(Some(&gauge), Arc::new(before)).reset, None);
    }
}
