//! Hand-written twins.
/// twin
#[derive(Clone, PartialEq, prost::Message)]
pub struct PollEventsResponse {}
/// twin
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadyToReceiveResponse {}
