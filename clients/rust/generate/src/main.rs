//! Writes the messages and clients of `proto/` to the directory that is given.
//! Their source is committed, so that users need neither protoc nor a build script.

use std::path::Path;

use anyhow::{Context, Result};

const FILES: [&str; 5] = [
    "futoin/evt/v1/admin.proto",
    "futoin/evt/v1/gen.proto",
    "futoin/evt/v1/poll.proto",
    "futoin/evt/v1/push.proto",
    "futoin/evt/v1/types.proto",
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let proto = arguments.next().context("no directory of protos")?;
    let out = arguments.next().context("no directory to write to")?;
    let descriptors = protox::Compiler::new([&proto])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?
        .file_descriptor_set();
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(Path::new(&out))
        .compile_fds(descriptors)
        .context("cannot generate")
}
