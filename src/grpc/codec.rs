//! tonic's codec for prost, with buffers made to measure.
//!
//! tonic's own takes 8 KiB for every request and as much for every answer, most
//! of which are some bytes, and doubles that until a message fits, copying what
//! it has each time.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// What a request takes at first: an event of the usual size fits. tonic grows
/// it at once to what the message's header says.
const REQUEST: usize = 512;

/// What an answer without events takes, its gRPC header included.
const ANSWER: usize = 64;

/// Messages that gather before they are handed to the connection: tonic's own.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// As `tonic_prost::ProstCodec`; the server's generated code uses it.
#[derive(Debug)]
pub(super) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MeasuredEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> MeasuredEncoder<T> {
        MeasuredEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(BufferSettings::new(REQUEST, YIELD_THRESHOLD))
    }
}

/// Encodes into a buffer that was made in the message's size.
#[derive(Debug)]
pub(super) struct MeasuredEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MeasuredEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode_raw(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ANSWER, YIELD_THRESHOLD)
    }
}
