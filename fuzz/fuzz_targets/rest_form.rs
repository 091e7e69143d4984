//! A request in the REST form.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| futoin_eventstream::futoin::fuzz::rest_form(bytes));
