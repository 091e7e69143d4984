//! Compiles the contract as a later version of the service would have it: one
//! more kind of push message, and one more field in every other message that
//! it sends. Clients have to live with both.

use std::error::Error;

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const PROTO: &str = "../../proto";
const FILES: [&str; 2] = ["futoin/evt/v1/poll.proto", "futoin/evt/v1/push.proto"];
/// Field numbers that the contract will not reach soon.
const LATER: i32 = 900;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let mut descriptors = protox::Compiler::new([PROTO])?
        .include_imports(true)
        .include_source_info(false)
        .open_files(FILES)?
        .file_descriptor_set();
    add_later_fields(&mut descriptors);
    tonic_prost_build::configure()
        .build_client(false)
        .compile_fds(descriptors)?;
    Ok(())
}

fn add_later_fields(descriptors: &mut FileDescriptorSet) {
    let messages = descriptors
        .file
        .iter_mut()
        .filter(|file| file.package() == "futoin.evt.v1")
        .flat_map(|file| &mut file.message_type);
    for message in messages {
        match message.name() {
            "ReadyToReceiveResponse" => add_field(message, "later", Some(0)),
            "SubscriptionStarted" | "EventGroup" | "Event" | "Heartbeat" | "AckResponse"
            | "RegisterConsumerResponse" | "Consumer" => add_field(message, "later", None),
            _ => {}
        }
    }
}

fn add_field(message: &mut DescriptorProto, name: &str, oneof: Option<i32>) {
    message.field.push(FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(LATER),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::String.into()),
        oneof_index: oneof,
        ..FieldDescriptorProto::default()
    });
}
