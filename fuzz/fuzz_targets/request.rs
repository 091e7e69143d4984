//! A gRPC call, through the front as it is served to a stream and its database.
#![no_main]

use std::sync::LazyLock;

use futoin_eventstream::app::fuzz::Service;

static SERVICE: LazyLock<Service> = LazyLock::new(Service::start);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| SERVICE.call(bytes));
