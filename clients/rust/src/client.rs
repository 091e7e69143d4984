//! One connection to the service, shared by everything that is called on it.

use tonic::{service::interceptor::InterceptedService, transport::Channel};

use crate::{
    connect::{Bearer, Builder},
    error::Error,
    poll::Poll,
    proto::{
        admin_service_client::AdminServiceClient, gen_service_client::GenServiceClient,
        poll_service_client::PollServiceClient, push_service_client::PushServiceClient,
    },
    receiver::{LiveReceiver, ReliableReceiver},
    retry::Retries,
};

/// The largest message that is accepted: 16 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// What calls go through: the connection, and the token that it adds.
pub(crate) type Transport = InterceptedService<Channel, Bearer>;

/// A client of the service. Clones share its connection, which is made by the
/// first call, and made again when it was lost.
#[derive(Clone, Debug)]
pub struct EventStream {
    pub(crate) transport: Transport,
    pub(crate) retries: Retries,
}

impl EventStream {
    /// A client of `http://host:port`, `https://host:port` or `unix:/path`.
    /// Needs a tokio runtime; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] when the address cannot be used.
    pub fn connect(address: &str) -> Result<Self, Error> {
        Self::builder(address).connect()
    }

    /// The same with tokens, certificates, deadlines.
    #[must_use]
    pub fn builder(address: &str) -> Builder {
        Builder::new(address)
    }

    /// Every event of a component, in order, at least once.
    pub fn receive(&self, component: &str) -> ReliableReceiver {
        ReliableReceiver::new(self.clone(), component)
    }

    /// What happens from now on, as long as the receiver keeps up.
    pub fn live(&self) -> LiveReceiver {
        LiveReceiver::new(self.clone())
    }

    /// Groups of events on demand: asking for the next acknowledges the one before.
    pub fn poll(&self, component: &str) -> Poll {
        Poll::new(self.clone(), component)
    }

    pub(crate) fn gen_service(&self) -> GenServiceClient<Transport> {
        GenServiceClient::new(self.transport.clone()).max_encoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn poll_service(&self) -> PollServiceClient<Transport> {
        PollServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn push_service(&self) -> PushServiceClient<Transport> {
        PushServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The calls of operators as the contract has them: status, consumers, seek.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<InterceptedService<Channel, Bearer>> {
        AdminServiceClient::new(self.transport.clone()).max_decoding_message_size(MAX_MESSAGE)
    }
}
