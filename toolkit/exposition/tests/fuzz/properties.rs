//! What holds for any body. Shared by the fuzz targets and the replay of their corpora.
//!
//! Readers never panic and never say more than the body can pay for. What was read and written once comes out the same
//! when it is read and written again.

use exposition::{
    Escaping, Family, Format, MetricType, MetricValue, WriteOptions, families,
    scrape::{Entry, Options, Parser},
};
use model::{Builder, Exemplar};

/// Reads the whole body as a server does, with everything it can ask for.
fn drain(body: &[u8], format: Format) -> Result<usize, String> {
    let mut samples = 0;
    // The last combination is the plainest, so that its samples are counted.
    let combinations: &[u8] = match format {
        Format::Protobuf => &[13, 15, 3, 1, 0],
        Format::OpenMetrics100 => &[12, 4, 0],
        _ => &[8, 0],
    };
    for bits in combinations {
        let [native_histograms, keep_classic, start_timestamps, custom_buckets] =
            [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let type_and_unit_labels = custom_buckets;
        let options =
            Options { native_histograms, keep_classic, start_timestamps, custom_buckets, type_and_unit_labels };
        let mut parser = Parser::with_options(body, format, options);
        let (mut labels, mut exemplars, mut entries) = (Builder::default(), Vec::<Exemplar>::new(), 0);
        samples = 0;
        while let Some(entry) = parser.next().map_err(|error| error.to_string())? {
            entries += 1;
            assert!(entries <= 4 * body.len() + 4, "{entries} entries from {} bytes", body.len());
            if let Entry::Series { .. } | Entry::Histogram { .. } = entry {
                samples += 1;
                parser.labels(&mut labels);
                let set = labels.build();
                assert!(!set.metric_name().is_empty(), "a series without a name");
                exemplars.clear();
                parser.exemplars(&mut exemplars);
                std::hint::black_box((parser.start(), parser.exemplar(), set));
            }
        }
    }
    Ok(samples)
}

fn written(families: &[Family], format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    exposition::write_with(families, format, Escaping::AllowUtf8, WriteOptions { created: true }, &mut out);
    out
}

/// Whether a family has the name of another one's part, which the text formats cannot tell apart.
fn clash(families: &[Family]) -> bool {
    let has_parts = |family: &Family| {
        matches!(family.kind, MetricType::Summary | MetricType::Histogram | MetricType::GaugeHistogram)
    };
    families.iter().filter(|family| has_parts(family)).any(|family| {
        let part = |other: &Family| {
            other
                .name
                .strip_prefix(family.name.as_str())
                .is_some_and(|rest| ["_count", "_sum", "_bucket"].contains(&rest))
        };
        families.iter().any(part)
    })
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writing in every other format and name escaping must work too.
fn write_everywhere(families: &[Family]) {
    let formats = [Format::Text004, Format::OpenMetrics100, Format::Protobuf, Format::ProtobufText];
    for (format, escaping) in
        formats.into_iter().zip([Escaping::Values, Escaping::Dots, Escaping::Underscores, Escaping::Dots])
    {
        exposition::write(families, format, escaping, &mut Vec::new());
    }
}

/// Text 0.0.4.
pub(crate) fn text(body: &[u8]) {
    // What a server refuses need not concern us further; it may well take what families refuse, and the other way.
    let _ = drain(body, Format::Text004);
    let _ = families::parse_text_with(body, families::Names::Legacy);
    let Ok(read) = families::parse_text(body) else { return };
    write_everywhere(&read);
    let once = written(&read, Format::Text004);
    if clash(&read) {
        return;
    }
    let again = families::parse_text(&once).unwrap_or_else(|error| panic!("{error}: {}", show(&once)));
    assert_eq!(show(&written(&again, Format::Text004)), show(&once));
    // A server takes no times before 1970 and no NUL in names, though families do.
    let metrics = || read.iter().flat_map(|family| &family.metrics);
    let mut names = metrics().flat_map(|metric| metric.labels.iter()).map(|(name, _)| name);
    let nul = names.any(|name| name.contains('\0')) || read.iter().any(|family| family.name.contains('\0'));
    if !nul && metrics().all(|metric| metric.at >= Some(0) || metric.at.is_none()) {
        drain(&once, Format::Text004).unwrap_or_else(|error| panic!("{error}: {}", show(&once)));
    }
}

/// Whether times survive being floats of seconds, and sums are such as the specification lets be written.
fn tame(families: &[Family]) -> bool {
    let near = |at: Option<i64>| at.is_none_or(|at| at.unsigned_abs() < 1 << 50);
    families.iter().flat_map(|family| &family.metrics).all(|metric| {
        near(metric.at)
            && match &metric.value {
                MetricValue::Histogram(h) => {
                    let exemplars = h.bucket_exemplars.iter().all(|(_, exemplar)| near(exemplar.at.map(|at| at.0)));
                    near(h.start) && exemplars && h.buckets.iter().all(|(bound, _)| *bound >= 0.0)
                }
                MetricValue::Summary { start, .. } => near(*start),
                MetricValue::Counter { start, exemplar, .. } => {
                    near(*start) && near(exemplar.as_ref().and_then(|exemplar| exemplar.at).map(|at| at.0))
                }
                _ => true,
            }
    })
}

/// OpenMetrics.
pub(crate) fn openmetrics(body: &[u8]) {
    let lax = drain(body, Format::OpenMetrics100);
    let Ok(read) = families::parse_openmetrics(body) else { return };
    assert!(lax.is_ok(), "read strictly and refused by the server's reading: {}", show(body));
    write_everywhere(&read);
    let once = written(&read, Format::OpenMetrics100);
    drain(&once, Format::OpenMetrics100).unwrap_or_else(|error| panic!("{error}: {}", show(&once)));
    if !tame(&read) {
        return;
    }
    let again = families::parse_openmetrics(&once).unwrap_or_else(|error| panic!("{error}: {}", show(&once)));
    assert_eq!(show(&written(&again, Format::OpenMetrics100)), show(&once));
}

/// Delimited protobuf.
pub(crate) fn protobuf(body: &[u8]) {
    let _ = drain(body, Format::Protobuf);
    let Ok(read) = families::parse_protobuf(body) else { return };
    write_everywhere(&read);
    let once = written(&read, Format::Protobuf);
    let again = families::parse_protobuf(&once).unwrap_or_else(|error| panic!("{error}: {once:?}"));
    assert_eq!(written(&again, Format::Protobuf), once, "{read:?}");
}
