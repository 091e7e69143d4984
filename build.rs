//! Compiles the gRPC contract in `proto/` without protoc, and keeps its
//! descriptor set for the reflection service.
//!
//! Two passes: messages with clients, and the server traits. In the server's
//! pass the two messages that carry events to consumers are our own encoders
//! (`grpc::wire`), so that an event's bytes are encoded once and shared, and
//! the codec makes its buffers to measure (`grpc::codec`).

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 5] = [
    "futoin/evt/v1/admin.proto",
    "futoin/evt/v1/gen.proto",
    "futoin/evt/v1/poll.proto",
    "futoin/evt/v1/push.proto",
    "futoin/evt/v1/types.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::Compiler::new(["proto"])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?
        .file_descriptor_set();

    // Comments become rustdoc; reflection does not need them.
    let mut reflected = descriptors.clone();
    for file in &mut reflected.file {
        file.source_code_info = None;
    }
    fs::write(
        out_dir.join("descriptors.bin"),
        prost::Message::encode_to_vec(&reflected),
    )?;

    let messages = out_dir.join("messages");
    fs::create_dir_all(&messages)?;
    tonic_prost_build::configure()
        .build_server(false)
        .out_dir(&messages)
        .compile_fds(descriptors.clone())?;

    let server = out_dir.join("server");
    fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::grpc::codec::Codec")
        .extern_path(".futoin.evt.v1", "crate::proto")
        .extern_path(
            ".futoin.evt.v1.PollEventsResponse",
            "crate::grpc::wire::PollEventsResponse",
        )
        .extern_path(
            ".futoin.evt.v1.ReadyToReceiveResponse",
            "crate::grpc::wire::ReadyToReceiveResponse",
        )
        .out_dir(&server)
        .compile_fds(descriptors)?;
    Ok(())
}
