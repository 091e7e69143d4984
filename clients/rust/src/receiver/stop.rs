//! The wish to stop: asked for again and again, also after it came true.

use std::{
    future::{Future, pending, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

pub(crate) struct Stop {
    wish: Pin<Box<dyn Future<Output = ()> + Send>>,
    stopped: bool,
}

impl Stop {
    pub(crate) fn never() -> Self {
        Self::on(pending())
    }

    pub(crate) fn on(wish: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            wish: Box::pin(wish),
            stopped: false,
        }
    }

    pub(crate) async fn wished(&mut self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Whether it is wished now.
    pub(crate) async fn is_wished(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(self.poll(context).is_ready())).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.stopped {
            ready!(self.wish.as_mut().poll(context));
            self.stopped = true;
        }
        Poll::Ready(())
    }
}
