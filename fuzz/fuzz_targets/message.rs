//! A message of any coding, up to the point where a function would run.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| futoin_eventstream::futoin::fuzz::message(bytes));
