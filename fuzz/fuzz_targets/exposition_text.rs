//! The properties of `exposition`'s text readers and writers, on whatever the fuzzer finds.
#![no_main]

#[allow(dead_code, reason = "each target runs one property")]
#[path = "../../toolkit/exposition/tests/fuzz/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|body: &[u8]| properties::text(body));
