//! Variables and a file of the configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| futoin_eventstream::config::fuzz::configuration(bytes));
