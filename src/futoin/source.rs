//! A subscription whose messages are waited for beside other things.
//!
//! A message once asked for is taken, even if it was not waited for to its end:
//! asking again would read the same page of the database again.

use futures_util::future::BoxFuture;

use crate::{auth::Supervised, error::Error, stream::Delivery};

type Message = Option<Result<Delivery, Error>>;

/// Where groups come from.
pub(super) struct Source {
    /// `None` while a message was asked for.
    resting: Option<Supervised>,
    asked: Option<BoxFuture<'static, (Supervised, Message)>>,
}

impl Source {
    pub(super) fn new(subscription: Supervised) -> Self {
        Self {
            resting: Some(subscription),
            asked: None,
        }
    }

    /// The next message; `None` after the end. Unless one `may` be taken, or was
    /// asked for, it waits for the loss of the consumer.
    ///
    /// Dropped, it forgets nothing.
    pub(super) async fn next(&mut self, may: bool) -> Message {
        if let Some(subscription) = &self.resting
            && !may
        {
            subscription.lost().await;
        }
        if let Some(mut subscription) = self.resting.take() {
            self.asked = Some(Box::pin(async move {
                let message = subscription.next().await;
                (subscription, message)
            }));
        }
        let (subscription, message) = self.asked.as_mut()?.await;
        self.asked = None;
        self.resting = Some(subscription);
        message
    }
}
