//! A gRPC request, up to the point where the stream would be asked.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| futoin_eventstream::grpc::fuzz::request(bytes));
