//! The properties of `exposition`'s OpenMetrics readers and writers, on whatever the fuzzer finds.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| narthex_fuzz::openmetrics(body));
